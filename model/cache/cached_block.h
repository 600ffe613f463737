#pragma once
// A decoder block (model/layers/block.h) that computes new tokens only. A cache holds the keys and values of
// earlier tokens.

#include <optional>

#include "model/cache/slot_cache.h"
#include "model/layers/block.h"
#include "runtime/operators/products/normed_products.h"

namespace foretoken {

/// The rows of one pass, any number per sequence. runtime/operators/attention/cached_attention.h defines
/// slots and paths.
struct CachedRows {
  Stream& stream;
  Tensor positions;  // [N] i32
  Tensor slots;      // [N] i32
  Tensor paths;      // [N, A] i32; undefined if every row is in its position's slot
  Tensor rope_cos;   // [P, HS/2]
  Tensor rope_sin;   // [P, HS/2]
  std::int64_t count() const { return slots.elements(); }
};

class CachedBlock {
 public:
  /// Buffers of one call of up to R rows; one set serves all blocks.
  struct Scratch {
    Tensor normed;     // [R, C]
    Tensor rstd;       // [R]
    Tensor qkv;        // [R, (NH + 2·NKV)·HS]
    Tensor attention;  // [R, NH·HS]
    Tensor gate_up;    // [R, 2F]
    Tensor gated;      // [R, F]
  };
  static Scratch plan_scratch(Arena& arena, const ModelConfig& config, DType dtype, std::int64_t rows);

  /// Plans the cache of keys and values, with 2·NKV·HS elements per slot.
  CachedBlock(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
              const CachePlan& plan, Block::Part part = Block::Part::whole);

  /// Replaces x [N, C] by the block's output and stores the rows' keys and values in the cache.
  void forward(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  /// Keys and values; empty for an MLP half.
  const std::optional<SlotCache>& cache() const { return cache_; }

 private:
  void attend(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  void run_mlp(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  NormedRows normed(const Tensor& x, const Tensor& weight, const Scratch& scratch) const;

  double eps_;
  AttentionHeads heads_;
  Block::Weights weight_;  // tensors that the part does not use are undefined
  std::optional<SlotCache> cache_;
};

}  // namespace foretoken
