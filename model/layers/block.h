#pragma once
// One decoder block, in Llama's form and with its Hugging Face names:
//
//   x₁  = x + o_proj · Attention( RoPE( qkv_proj · RMSNorm(x) ) )
//   out = x₁ + down_proj · SwiGLU( gate_up_proj · RMSNorm(x₁) )
//
// A stage may hold only the attention half or only the MLP half. x₁ is then the output of the first or the
// input of the second.
//
// Backward is two functions: backward_input computes dx and stores what backward_weight needs in Gradients,
// so that a schedule can run the weight half later.
//
// In comments on tensors, "=" means that the function overwrites the tensor and "+=" that it adds to it.

#include <string>
#include <vector>

#include "model/config.h"
#include "model/layers/normed_linear.h"
#include "runtime/operators/attention/attention.h"
#include "runtime/operators/parameters/parameters.h"

namespace foretoken {

class Block {
 public:
  enum class Part { whole, attention, mlp };

  /// The block's parameters, named `prefix`.self_attn.q_proj.weight and so on.
  static std::vector<ParameterSpec> parameters(const ModelConfig& config, const std::string& prefix,
                                               Part part = Part::whole);

  Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
        const ActivationPlan& plan, Part part = Part::whole);

  Part part() const { return part_; }

  /// Tensors that the part does not use are undefined, here and in the structs below.
  struct Weights {
    Tensor norm1;    // [C]
    Tensor qkv;      // [(NH + 2·NKV)·HS, C]
    Tensor o;        // [C, NH·HS]
    Tensor norm2;    // [C]
    Tensor gate_up;  // [2F, C]
    Tensor down;     // [C, F]
  };
  /// Views of the block's tensors in `flat`, which is parameters.weights() or parameters.gradients().
  static Weights weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix,
                         Part part = Part::whole);

  /// The inputs of the matrix products after a norm or the gate.
  struct Inputs {
    Tensor normed1;  // [N, C]
    Tensor normed2;  // [N, C]
    Tensor gated;    // [N, F]
  };
  /// FP8 only: the transposed operands of the weights' gradients (Linear::Transposes).
  struct Transposed {
    QuantizedTensor qkv, o, gate_up, down;
  };
  /// One microbatch's tensors, kept from forward until its backward is complete.
  struct Saved {
    Inputs inputs;  // tensors of its own if backward reads them; otherwise Scratch::inputs
    Transposed transposed;
    Tensor rstd1;           // [N]
    Tensor qkv;             // [B, T, (NH + 2·NKV)·HS], rotated
    Tensor attention, lse;  // [B, T, NH·HS], [B, NH, T]
    Tensor x1;              // [N, C], whole blocks only
    Tensor rstd2;           // [N]
    Tensor gate_up;         // [N, 2F]
    // [N, 2F], written by backward_input unless products run in FP8. plan_saved() places it in the memory of
    // gate_up, which is not read afterwards.
    Tensor dgate_up;
  };
  /// One microbatch's tensors between backward_input and backward_weight.
  struct Gradients {
    Inputs inputs;  // set if backward recomputes them
    Transposed transposed;
    Tensor dx1;   // [N, C], whole blocks only
    Tensor dqkv;  // [B, T, (NH + 2·NKV)·HS]
  };
  /// Scratch of one call, shared by all blocks of a stage.
  struct Scratch {
    Saved recomputed;   // with Recompute::full
    Inputs inputs;      // forward's, if backward recomputes them or reads their FP8 transposes instead
    Tensor dgated;      // [N, F]; shares the memory of inputs.gated if that tensor is not read again
    Tensor dnormed;     // [N, C]
    Tensor dattention;  // [B, T, NH·HS]
  };
  static Saved plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                          const Scratch& scratch, Part part = Part::whole);
  static Gradients plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                  const Scratch& scratch, Part part = Part::whole);
  static Scratch plan_scratch(Arena& arena, const ModelConfig& config, const ActivationPlan& plan);

  /// Computes the block's output in out [N, C] from x [N, C].
  void forward(const LayerContext& context, const Tensor& x, const Tensor& out, const Saved& saved) const;
  struct BackwardInput {
    Tensor dout;  // [N, C]
    Tensor x;     // [N, C], forward's
    Tensor dx;    // [N, C] =
    const Saved& saved;
    const Gradients& gradients;
    const Scratch& scratch;
  };
  /// += into the norms' gradients, unless context.measure_only is set
  void backward_input(const LayerContext& context, const BackwardInput& op) const;
  /// += into the matrices' gradients, or = in the step's first microbatch (context.halves_run)
  void backward_weight(const LayerContext& context, const Tensor& dout, const Saved& saved,
                       const Gradients& gradients) const;

 private:
  bool has_attention() const { return part_ != Part::mlp; }
  bool has_mlp() const { return part_ != Part::attention; }
  // attend() and gate() run one half without its last product, which adds to the residual stream. With
  // Recompute::full backward repeats them.
  void attend(const LayerContext& context, const Tensor& x, const Saved& saved) const;
  void gate(const LayerContext& context, const Tensor& x1, const Saved& saved) const;
  /// The input of `down_` after gate().
  QuantizeSource gated(const LayerContext& context, const Saved& saved) const;
  void add_attention(const LayerContext& context, const Tensor& x, const Tensor& x1,
                     const Saved& saved) const;
  // Backward of one half: `dout`, `x` and `dx` belong to the half, not to the block.
  void backward_mlp(const LayerContext& context, const BackwardInput& op) const;
  void backward_attention(const LayerContext& context, const BackwardInput& op) const;

  static Inputs plan_inputs(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                            Part part = Part::whole);
  /// Transposes of the products' inputs or, with `gradients`, of their outputs' gradients. Undefined unless
  /// the products run in FP8.
  static Transposed plan_transposed(const ModelConfig& config, const ActivationPlan& plan, bool gradients,
                                    Part part);
  static Saved plan_own_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                              const Inputs& inputs, Part part = Part::whole);
  const Inputs& inputs(const Saved& saved, const Gradients& gradients) const {
    return recompute_ == Recompute::selective ? gradients.inputs : saved.inputs;
  }
  /// The tensors that backward_input recomputes; undefined if forward kept them.
  Inputs recomputed(const Gradients& gradients) const {
    return recompute_ == Recompute::selective ? gradients.inputs : Inputs{};
  }

  Recompute recompute_;
  Part part_;
  AttentionHeads heads_;
  NormedLinear qkv_, gate_up_;
  Linear o_, down_;
};

}  // namespace foretoken
