#pragma once
// A trunk spread over ranks, for generating with a model that does not fit one device. Each rank is a stage,
// a range of half layers, and the hidden states of a pass go through the stages in order. The last stage
// also has the final norm, the output matrix and the prediction heads. It generates and sends the other
// stages the passes to compute (Decoder::follow()).
//
// Stages are assigned to ranks in reverse: the last stage is the pipeline's first rank, because rank 0 of the
// world does the input and output of the program.

#include <memory>
#include <span>
#include <vector>

#include "model/layout.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/transport.h"

namespace foretoken {

/// Assigns layers to `stages` ranks by parameter count, which determines the memory and the time of
/// generation.
/// Throws a UsageError if there are too few layers (partition_layers()).
ModelLayout decoding_layout(const ModelConfig& model, const MtpConfig& mtp, int stages);

class TrunkPipeline {
 public:
  /// Neighbouring ranks of the world form pipelines of layout.stages() stages. The world's size must be a
  /// multiple of layout.stages(). Collective over the world, which must outlive the pipeline, as must the
  /// stream.
  TrunkPipeline(MpiCommunicator& world, Stream& stream, ModelLayout layout);

  const ModelLayout& layout() const { return layout_; }
  int stage() const { return ranks_->rank(); }
  bool is_first() const { return stage() == 0; }
  bool is_last() const { return stage() == layout_.stages() - 1; }

  /// Receives the hidden states [N, C] of a pass from the previous stage; no effect on the first.
  void receive(const Tensor& x);
  /// Sends the hidden states to the next stage; no effect on the last.
  void send(const Tensor& x);
  /// Same as Transport::synchronize().
  void synchronize() { transport_->synchronize(); }

  enum class Order : std::int32_t { rows, moves, end };
  /// Sends an order from the last stage to all others, which must call receive_order().
  void send_order(Order order, std::span<const std::int32_t> numbers);
  Order receive_order(std::vector<std::int32_t>& numbers);

 private:
  /// Sends the last stage's numbers to every rank.
  void broadcast(std::span<std::int32_t> numbers);

  ModelLayout layout_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Communicator> ranks_;  // in the order of stages
};

}  // namespace foretoken
