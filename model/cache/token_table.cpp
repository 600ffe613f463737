#include "model/cache/token_table.h"

#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken {

void TokenTable::embed(Stream& stream, const Tensor& tokens, const Tensor& out) const {
  const std::int64_t n = tokens.elements();
  embedding_forward(stream, {.tokens = tokens.view({1, n}),
                             .table = table,
                             .chosen = chosen,
                             .out = out.view({1, n, table.shape[1]})});
}

}  // namespace foretoken
