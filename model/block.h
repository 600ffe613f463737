#pragma once
// One decoder block, in Llama's form and with its Hugging Face names:
//
//   x₁  = x + o_proj · Attention( RoPE( qkv_proj · RMSNorm(x) ) )
//   out = x₁ + down_proj · SwiGLU( gate_up_proj · RMSNorm(x₁) )
//
// A stage may hold one of the two steps alone, its attention half or its MLP half: x₁ is then what goes out,
// or what comes in.
//
// Backward is two functions: backward_input gives dx and keeps what backward_weight needs in Gradients, so
// that a schedule may run the weight half later.

#include <string>
#include <vector>

#include "model/config.h"
#include "model/layers/linear.h"
#include "runtime/operators/attention.h"
#include "runtime/parameters.h"

namespace foretoken {

class Block {
 public:
  enum class Part { whole, attention, mlp };

  /// What the block owns, named `prefix`.self_attn.q_proj.weight and so on.
  static std::vector<ParameterSpec> parameters(const ModelConfig& config, const std::string& prefix,
                                               Part part = Part::whole);

  Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
        const ActivationPlan& plan, Part part = Part::whole);

  Part part() const { return part_; }

  /// Undefined what the part does not have, as in all structs here.
  struct Weights {
    Tensor norm1;    // [C]
    Tensor qkv;      // [(NH + 2·NKV)·HS, C]
    Tensor o;        // [C, NH·HS]
    Tensor norm2;    // [C]
    Tensor gate_up;  // [2F, C]
    Tensor down;     // [C, F]
  };
  /// Of the block of that prefix in `flat`, one of the parameters' buffers.
  static Weights weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix,
                         Part part = Part::whole);

  /// What the matrix products that follow a norm or the gate take in.
  struct Inputs {
    Tensor normed1;  // [N, C]
    Tensor normed2;  // [N, C]
    Tensor gated;    // [N, F]
  };
  /// In FP8: transposes that the matrices' gradients are made of (Linear::Transposes).
  struct Transposed {
    QuantizedTensor qkv, o, gate_up, down;
  };
  /// Of one microbatch in flight, from forward to the last of its backwards.
  struct Saved {
    Inputs inputs;  // where they are kept; else of the forward that runs
    Transposed transposed;
    Tensor rstd1;           // [N]
    Tensor qkv;             // [B, T, (NH + 2·NKV)·HS], rotated
    Tensor attention, lse;  // [B, T, NH·HS], [B, NH, T]
    Tensor x1;              // [N, C], of a whole block
    Tensor rstd2;           // [N]
    Tensor gate_up;         // [N, 2F]; after backward_input its gradient, unless products run in FP8
  };
  /// Of one microbatch between backward_input and backward_weight.
  struct Gradients {
    Inputs inputs;  // where they are recomputed
    Transposed transposed;
    Tensor dx1;   // [N, C], of a whole block
    Tensor dqkv;  // [B, T, (NH + 2·NKV)·HS]
  };
  /// Of one call; one set serves all blocks of a stage.
  struct Scratch {
    Saved recomputed;   // where a block is recomputed in full
    Inputs inputs;      // of forward, where backward recomputes them or has their transposes
    Tensor dgated;      // [N, F]
    Tensor dnormed;     // [N, C]
    Tensor dattention;  // [B, T, NH·HS]
  };
  static Saved plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                          const Scratch& scratch, Part part = Part::whole);
  static Gradients plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                  const Scratch& scratch, Part part = Part::whole);
  static Scratch plan_scratch(Arena& arena, const ModelConfig& config, const ActivationPlan& plan);

  /// x [N, C] → out [N, C]
  void forward(const LayerContext& context, const Tensor& x, const Tensor& out, const Saved& saved) const;
  /// dout [N, C] → dx [N, C] =; += into the norms' gradients
  void backward_input(const LayerContext& context, const Tensor& dout, const Tensor& x, const Tensor& dx,
                      const Saved& saved, const Gradients& gradients, const Scratch& scratch) const;
  /// += into the matrices' gradients, = where context.begun says that it is the first
  void backward_weight(const LayerContext& context, const Tensor& dout, const Saved& saved,
                       const Gradients& gradients) const;

 private:
  bool has_attention() const { return part_ != Part::mlp; }
  bool has_mlp() const { return part_ != Part::attention; }
  // Each half but its last product, which adds to the residual: what backward needs.
  void attend(const LayerContext& context, const Tensor& x, const Saved& saved) const;
  void gate(const LayerContext& context, const Tensor& x1, const Saved& saved) const;
  /// What `down_` multiplies after gate().
  QuantizeSource gated(const LayerContext& context, const Saved& saved) const;
  void add_attention(const LayerContext& context, const Tensor& x, const Tensor& x1,
                     const Saved& saved) const;
  void backward_mlp(const LayerContext& context, const Tensor& dout, const Tensor& x1, const Tensor& dx1,
                    const Saved& saved, const Gradients& gradients, const Inputs& recomputed,
                    const Scratch& scratch) const;
  void backward_attention(const LayerContext& context, const Tensor& dx1, const Tensor& x, const Tensor& dx,
                          const Saved& saved, const Gradients& gradients, const Inputs& recomputed,
                          const Scratch& scratch) const;

  static Inputs plan_inputs(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                            Part part = Part::whole);
  /// Undefined unless the plan's products run in FP8; of inputs or, where `gradients`, of gradients.
  static Transposed plan_transposed(const ModelConfig& config, const ActivationPlan& plan, bool gradients,
                                    Part part);
  static Saved plan_own_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                              const Inputs& inputs, Part part = Part::whole);
  const Inputs& inputs(const Saved& saved, const Gradients& gradients) const {
    return recompute_ == Recompute::selective ? gradients.inputs : saved.inputs;
  }

  double eps_;
  Recompute recompute_;
  Part part_;
  AttentionHeads heads_;
  Tensor norm1_, norm2_;    // [C]
  Tensor dnorm1_, dnorm2_;  // [C]
  Linear qkv_, o_, gate_up_, down_;
};

}  // namespace foretoken
