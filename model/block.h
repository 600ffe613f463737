#pragma once
// One decoder block, in Llama's form and with its Hugging Face names:
//
//   x₁  = x + o_proj · Attention( RoPE( qkv_proj · RMSNorm(x) ) )
//   out = x₁ + down_proj · SwiGLU( gate_up_proj · RMSNorm(x₁) )
//
// Backward is two functions: backward_input gives dx and keeps what backward_weight needs in Gradients, so
// that a schedule may run the weight half later.

#include <string>
#include <vector>

#include "model/config.h"
#include "model/layer_context.h"
#include "runtime/operators/attention.h"
#include "runtime/parameters.h"

namespace foretoken {

class Block {
 public:
  /// What the block owns, named `prefix`.self_attn.q_proj.weight and so on.
  static std::vector<ParameterSpec> parameters(const ModelConfig& config, const std::string& prefix);

  Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix);

  /// Of one microbatch in flight, from forward to the last of its backwards.
  struct Saved {
    Tensor rstd1, normed1;  // [N], [N, C]
    Tensor qkv;             // [B, T, (NH + 2·NKV)·HS], rotated
    Tensor attention, lse;  // [B, T, NH·HS], [B, NH, T]
    Tensor x1;              // [N, C]
    Tensor rstd2, normed2;  // [N], [N, C]
    Tensor gate_up;         // [N, 2F]
    Tensor gated;           // [N, F]
  };
  /// Of one microbatch between backward_input and backward_weight.
  struct Gradients {
    Tensor dgate_up;  // [N, 2F]
    Tensor dnormed2;  // [N, C]
    Tensor dx1;       // [N, C]
    Tensor dqkv;      // [B, T, (NH + 2·NKV)·HS]
    Tensor dnormed1;  // [N, C]
  };
  /// Of one call.
  struct Scratch {
    Tensor dgated;      // [N, F]
    Tensor dattention;  // [B, T, NH·HS]
  };
  static Saved plan_saved(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape, DType dtype);
  static Gradients plan_gradients(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape,
                                  DType dtype);
  static Scratch plan_scratch(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape,
                              DType dtype);

  /// x [N, C] → out [N, C]
  void forward(const LayerContext& context, const Tensor& x, const Tensor& out, const Saved& saved) const;
  /// dout [N, C] → dx [N, C] =
  void backward_input(const LayerContext& context, const Tensor& dout, const Tensor& x, const Tensor& dx,
                      const Saved& saved, const Gradients& gradients, const Scratch& scratch) const;
  /// += into the parameters' gradients
  void backward_weight(const LayerContext& context, const Tensor& dout, const Tensor& x, const Saved& saved,
                       const Gradients& gradients) const;

 private:
  struct Weights {
    Tensor norm1;    // [C]
    Tensor qkv;      // [(NH + 2·NKV)·HS, C]
    Tensor o;        // [C, NH·HS]
    Tensor norm2;    // [C]
    Tensor gate_up;  // [2F, C]
    Tensor down;     // [C, F]
  };
  Weights weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix) const;

  double eps_;
  AttentionHeads heads_;
  Weights value_;
  Weights gradient_;
};

}  // namespace foretoken
