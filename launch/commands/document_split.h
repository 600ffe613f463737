#pragma once
// Which documents tokenize holds out for validation.

#include <cstdint>
#include <span>
#include <vector>

namespace foretoken {

/// Chooses whole documents whose tokens together come as near to `fraction` of all as taking the documents
/// one by one can: in an order that depends on a document's number alone, each document is taken if its
/// tokens bring the sum nearer. The same counts give the same choice on every machine, and documents that are
/// appended to the text leave most of the earlier choice as it is. Returns one entry per document.
std::vector<bool> held_out_documents(std::span<const std::int64_t> tokens_of_document, double fraction);

}  // namespace foretoken
