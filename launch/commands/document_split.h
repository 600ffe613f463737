#pragma once
// Chooses the documents that tokenize holds out for validation.

#include <cstdint>
#include <span>
#include <vector>

namespace foretoken {

/// Chooses whole documents with about `fraction` of all tokens. In an order that depends on a document's
/// number alone, each document that still fits is taken; then the shortest of the others, if the sum is then
/// closer to the target. The same counts give the same choice on every machine, and most of the choice stays
/// the same if documents are appended to the text. Returns one entry per document.
std::vector<bool> held_out_documents(std::span<const std::int64_t> tokens_of_document, double fraction);

}  // namespace foretoken
