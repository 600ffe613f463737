#pragma once
// A decoder block (model/block.h) over new tokens alone: what it needs of earlier ones, their keys and
// values, is in its cache.

#include "model/block.h"
#include "runtime/operators/normed_products.h"

namespace foretoken {

/// The rows of one pass, any number from each sequence; cells as in runtime/operators/cached_attention.h.
struct CachedRows {
  Stream& stream;
  Tensor positions;  // [N] i32
  Tensor cells;      // [N] i32
  Tensor paths;      // [N, A] i32; undefined: every row is in its position's place
  Tensor rope_cos;   // [P, HS/2]
  Tensor rope_sin;   // [P, HS/2]
  std::int64_t count() const { return cells.elements(); }
};

class CachedBlock {
 public:
  /// Of one call of up to R rows; one set serves all blocks.
  struct Scratch {
    Tensor normed;     // [R, C]
    Tensor rstd;       // [R]
    Tensor qkv;        // [R, (NH + 2·NKV)·HS]
    Tensor attention;  // [R, NH·HS]
    Tensor gate_up;    // [R, 2F]
    Tensor gated;      // [R, F]
  };
  static Scratch plan_scratch(Arena& arena, const ModelConfig& config, DType dtype, std::int64_t rows);

  /// The cache of its attention, [S, P, 2·NKV·HS], comes from the arena; P: places of a sequence.
  CachedBlock(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
              Arena& arena, DType dtype, std::int64_t sequences, std::int64_t places,
              Block::Part part = Block::Part::whole);

  /// x [N, C] = the block of x; the rows' keys and values go into the cache.
  void forward(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  const Tensor& cache() const { return cache_; }

 private:
  void attend(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  void run_mlp(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const;
  NormedRows normed(const Tensor& x, const Tensor& weight, const Scratch& scratch) const;

  double eps_;
  AttentionHeads heads_;
  Block::Weights weight_;  // undefined what its part does not have
  Tensor cache_;           // likewise
};

}  // namespace foretoken
