#pragma once
// Which documents tokenize holds out for validation.

#include <cstdint>
#include <span>
#include <vector>

namespace foretoken {

/// Chooses whole documents with about `fraction` of all tokens. In an order that depends on a document's
/// number alone, each document that still fits is taken; then the shortest of the others, if that brings the
/// sum nearer. The same counts give the same choice on every machine, and documents that are appended to the
/// text leave most of the earlier choice as it is. Returns one entry per document.
std::vector<bool> held_out_documents(std::span<const std::int64_t> tokens_of_document, double fraction);

}  // namespace foretoken
