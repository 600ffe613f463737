// Compares the parts of a training step on GPUs (the pipeline's messages, gradient reduction, shared weights
// and optimizer) with a serial computation on the CPU.

#include <map>

#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "tests/multi_rank/gpu.h"
#include "tests/multi_rank/toy_model.h"

using namespace foretoken;
using multi_rank::Gpu;

namespace {

constexpr std::int64_t boundary = 1 << 16;

std::vector<float> constant(double value) {
  return std::vector<float>(boundary, static_cast<float>(value));
}

/// Stages that add: out = in + bias(stage), din = dout + in. Each microbatch has its own input, and the
/// results of the first and the last stage are kept per microbatch, so the test detects if a microbatch reads
/// the tensor of another one.
class AddingStages final : public StageWork {
 public:
  AddingStages(Gpu& gpu, const PipelineShape& shape, const ProgramFootprint& footprint, int rank)
      : gpu_(gpu), shape_(shape) {
    for (int stage = rank; stage < shape.stages(); stage += shape.pp) {
      biases_[stage] = gpu.upload(constant(bias(stage)));
      for (int slot = 0; slot < footprint.slots[static_cast<std::size_t>(stage)]; ++slot)
        slots_[stage].push_back({zeros(), zeros(), zeros(), zeros()});
    }
    for (int m = 0; m < shape.microbatches; ++m) {
      inputs_.push_back(gpu.upload(constant(input(m))));
      outputs.push_back(zeros());
      input_gradients.push_back(zeros());
    }
  }

  static double bias(int stage) { return 3 * stage + 1; }
  static double input(int microbatch) { return 100 * (microbatch + 1); }

  std::vector<Tensor> outputs;          // outputs of the last stage, by microbatch
  std::vector<Tensor> input_gradients;  // input gradients of stage 0, by microbatch

  Tensor activation_in(const InFlight& at) override { return slot(at).in; }
  Tensor activation_out(const InFlight& at) override { return slot(at).out; }
  Tensor gradient_in(const InFlight& at) override { return slot(at).dout; }
  Tensor gradient_out(const InFlight& at) override { return slot(at).din; }

  void forward(const InFlight& at) override {
    const auto microbatch = static_cast<std::size_t>(at.microbatch);
    const Slot& s = slot(at);
    if (at.stage == 0) copy(gpu_.stream(), inputs_[microbatch], s.in);
    copy(gpu_.stream(), s.in, s.out);
    add(gpu_.stream(), biases_.at(at.stage), s.out);
    if (at.stage != shape_.stages() - 1) return;
    copy(gpu_.stream(), s.out, outputs[microbatch]);
    copy(gpu_.stream(), s.out, s.dout);
  }
  void backward(const InFlight& at) override {
    backward_input(at);
    backward_weight(at);
  }
  void backward_input(const InFlight& at) override {
    const Slot& s = slot(at);
    copy(gpu_.stream(), s.dout, s.din);
    add(gpu_.stream(), s.in, s.din);
    if (at.stage == 0) copy(gpu_.stream(), s.din, input_gradients[static_cast<std::size_t>(at.microbatch)]);
  }
  void backward_weight(const InFlight& at) override {
    // The executor must not read these values again.
    fill(gpu_.stream(), slot(at).in, -1e6);
    fill(gpu_.stream(), slot(at).dout, -1e6);
  }

 private:
  struct Slot {
    Tensor in, out, dout, din;
  };
  Tensor zeros() { return gpu_.upload(constant(0)); }
  Slot& slot(const InFlight& at) { return slots_.at(at.stage).at(static_cast<std::size_t>(at.slot)); }

  Gpu& gpu_;
  PipelineShape shape_;
  std::map<int, Tensor> biases_;
  std::map<int, std::vector<Slot>> slots_;
  std::vector<Tensor> inputs_;
};

void check_against_serial(Gpu& gpu, const PipelineShape& shape, int rank, AddingStages& stages) {
  for (int m = 0; m < shape.microbatches; ++m) {
    std::vector<double> in{AddingStages::input(m)};
    for (int stage = 0; stage < shape.stages(); ++stage) in.push_back(in.back() + AddingStages::bias(stage));
    double gradient = in.back();
    for (int stage = shape.stages() - 1; stage >= 0; --stage) gradient += in[static_cast<std::size_t>(stage)];
    CAPTURE(to_string(shape), m);
    if (rank == shape.rank_of(shape.stages() - 1))
      CHECK(difference(gpu.download<float>(stages.outputs[static_cast<std::size_t>(m)]), constant(in.back()),
                       "output") == "");
    if (rank == 0)
      CHECK(difference(gpu.download<float>(stages.input_gradients[static_cast<std::size_t>(m)]),
                       constant(gradient), "input gradient") == "");
  }
}

}  // namespace

TEST_CASE("every schedule on GPUs computes the outputs and gradients of serial execution",
          "[gpu][ranks1][ranks2][ranks4]") {
  const auto [schedule, v] = GENERATE(table<std::string, int>(
      {{"gpipe", 1}, {"1f1b", 1}, {"interleaved_1f1b", 2}, {"interleaved_1f1b", 3}, {"zero_bubble_h1", 1}}));
  INFO(schedule);
  MpiCommunicator& world = multi_rank::world();
  const PipelineShape shape{world.size(), v, 8};
  const Program lowered = lower_program(make_program(schedule, shape));
  const ProgramFootprint footprint = validate_program(lowered);
  Gpu gpu;
  for (const auto& transport : gpu.transports()) {
    INFO(transport->description());
    AddingStages stages(gpu, shape, footprint, world.rank());
    const auto pipeline = multi_rank::connect(*transport, {.neighbour_messages = true, .ring = v > 1});
    Executor executor(lowered, footprint, stages, *pipeline, gpu.stream());
    for (int step = 0; step < 3; ++step) {
      executor.run();
      transport->synchronize();
      check_against_serial(gpu, shape, world.rank(), stages);
    }
  }
}

TEST_CASE("every layout on GPUs sums, clips and updates as serial AdamW", "[gpu][ranks1][ranks2][ranks4]") {
  const OptimizerConfig config{.weight_decay = 0.1, .clip_norm = 25};
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, config, multi_rank::own_gpu());
    SerialToy serial(layout.grid, config);
    for (int step = 1; step <= 4; ++step)  // gradients and norm are exact, so bits can be compared
      CHECK(toy.train(step, 0.01) == serial.train(step, 0.01));
    double worst = 0;
    for (const ParameterUnit& unit : toy.parameters.units())
      for (const ParameterSpec& spec : unit.specs) {
        std::vector<float> values(static_cast<std::size_t>(spec.shape.elements()));
        copy(toy.stream, toy.parameters.weight(spec.name), tensor_over(std::span(values), spec.shape));
        toy.stream.synchronize();
        const std::vector<float>& expected = serial.states.at(spec.name).value;
        for (std::size_t i = 0; i < values.size(); ++i)
          worst =
              std::max(worst, std::abs(static_cast<double>(values[i]) - static_cast<double>(expected[i])));
      }
    CHECK(worst < 2e-6);
    CHECK_NOTHROW(check_replicas(toy.stream, toy.parameters, toy.groups));
  }
}
