#pragma once
// A trunk spread over ranks, for generating with a model that one device does not hold. Each rank is a stage,
// a run of half layers, and the states of a pass go through the stages in order. The last stage is the one
// that generates: it has the final norm, the output matrix and the prediction heads besides, and tells the
// others what to compute; they follow (Decoder::follow()).
//
// The last stage is rank 0 of its pipeline's ranks, the first stage the last of them: rank 0 is who speaks.

#include <memory>
#include <span>
#include <vector>

#include "model/layout.h"
#include "parallel/mpi_communicator.h"
#include "parallel/transport.h"

namespace foretoken {

/// Layers dealt to `stages` ranks by parameters, which generating takes memory and time for. A UsageError
/// where there are too few (partition_layers()).
ModelLayout decoding_layout(const ModelConfig& model, const MtpConfig& mtp, int stages);

class TrunkPipeline {
 public:
  /// Neighbouring ranks of the world form pipelines of layout.stages() stages; the world's size is a multiple
  /// of it. Collective over the world, which must outlive it, as must the stream.
  TrunkPipeline(MpiCommunicator& world, Stream& stream, ModelLayout layout);

  const ModelLayout& layout() const { return layout_; }
  int stage() const { return ranks_->rank(); }
  bool is_first() const { return stage() == 0; }
  bool is_last() const { return stage() == layout_.stages() - 1; }

  /// The states [N, C] of a pass, from the stage before; nothing to do on the first.
  void receive(const Tensor& x);
  /// To the stage after; nothing to do on the last.
  void send(const Tensor& x);
  /// As Transport::synchronize().
  void synchronize() { transport_->synchronize(); }

  enum class Order : std::int32_t { rows, moves, end };
  /// From the last stage to all others, which hear orders one after another.
  void tell(Order order, std::span<const std::int32_t> numbers);
  Order hear(std::vector<std::int32_t>& numbers);

 private:
  /// The last stage's numbers on every rank.
  void broadcast(std::span<std::int32_t> numbers);

  ModelLayout layout_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Communicator> ranks_;  // in the order of stages
};

}  // namespace foretoken
