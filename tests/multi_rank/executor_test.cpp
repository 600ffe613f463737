#include "parallel/pipeline/executor.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;

namespace {

// The stages of these tests are affine maps of integers modulo 2⁶⁴. They are exact and do not commute, so the
// results differ if a stage is omitted, run twice, run in another order or run on another microbatch.

using Word = std::uint64_t;
using Words = std::vector<Word>;

Word weight_of(int stage) {
  return 2 * static_cast<Word>(stage) + 3;
}
Word bias_of(int stage, int microbatch) {
  return static_cast<Word>(stage) * 1'000'003 + static_cast<Word>(microbatch) + 1;
}

Words input_of(int microbatch, std::size_t size) {
  Words input(size);
  for (std::size_t i = 0; i < size; ++i) input[i] = mix64((static_cast<Word>(microbatch) << 32) + i);
  return input;
}

void apply_forward(int stage, int microbatch, const Words& in, Words& out) {
  for (std::size_t i = 0; i < in.size(); ++i) out[i] = weight_of(stage) * in[i] + bias_of(stage, microbatch);
}

void apply_backward_input(int stage, int microbatch, const Words& in, const Words& dout, Words& din) {
  for (std::size_t i = 0; i < in.size(); ++i)
    din[i] = weight_of(stage) * dout[i] + in[i] + bias_of(stage, microbatch);
}

/// Adds a microbatch to the gradient such that the result depends on the order of the microbatches.
void accumulate_weight(const Words& in, const Words& dout, Word& dweight) {
  dweight *= 5;
  for (std::size_t i = 0; i < in.size(); ++i) dweight += mix64(in[i] ^ (dout[i] << 1));
}

/// Reference: the weight gradients of all stages, computed without a pipeline, one microbatch after another.
Words serial_gradients(const PipelineShape& shape, std::size_t size) {
  Words gradients(static_cast<std::size_t>(shape.stages()));
  for (int m = 0; m < shape.microbatches; ++m) {
    std::vector<Words> inputs = {input_of(m, size)};
    for (int stage = 0; stage < shape.stages(); ++stage) {
      Words out(size);
      apply_forward(stage, m, inputs.back(), out);
      inputs.push_back(out);
    }
    Words dout = inputs.back();  // the gradient of the last stage's loss is its output
    for (int stage = shape.stages() - 1; stage >= 0; --stage) {
      const Words& in = inputs[static_cast<std::size_t>(stage)];
      accumulate_weight(in, dout, gradients[static_cast<std::size_t>(stage)]);
      Words din(size);
      apply_backward_input(stage, m, in, dout, din);
      dout = din;
    }
  }
  return gradients;
}

class IntegerStages final : public StageWork {
 public:
  IntegerStages(const PipelineShape& shape, const ProgramFootprint& footprint, int rank,
                const Shape& boundary)
      : shape_(shape), boundary_(boundary), rank_(rank) {
    for (int stage = rank; stage < shape.stages(); stage += shape.pp)
      slots_[stage].resize(static_cast<std::size_t>(footprint.slots[static_cast<std::size_t>(stage)]),
                           Slot{words(), words(), words(), words()});
  }

  std::map<int, Word> gradients;  // key: stage
  std::map<int, Words> outputs;   // outputs of the last stage; key: microbatch

  Tensor activation_in(const InFlight& at) override { return tensor(slot(at).in); }
  Tensor activation_out(const InFlight& at) override { return tensor(slot(at).out); }
  Tensor gradient_in(const InFlight& at) override { return tensor(slot(at).dout); }
  Tensor gradient_out(const InFlight& at) override { return tensor(slot(at).din); }

  void forward(const InFlight& at) override {
    delay(at);
    Slot& s = slot(at);
    if (at.stage == 0) s.in = input_of(at.microbatch, s.in.size());
    apply_forward(at.stage, at.microbatch, s.in, s.out);
    if (at.stage == shape_.stages() - 1) outputs[at.microbatch] = s.dout = s.out;
  }
  void backward(const InFlight& at) override {
    backward_input(at);
    backward_weight(at);
  }
  void backward_input(const InFlight& at) override {
    delay(at);
    Slot& s = slot(at);
    apply_backward_input(at.stage, at.microbatch, s.in, s.dout, s.din);
  }
  void backward_weight(const InFlight& at) override {
    Slot& s = slot(at);
    accumulate_weight(s.in, s.dout, gradients[at.stage]);
    // The executor must not read these values again.
    s.in.assign(s.in.size(), 0xdead);
    s.dout.assign(s.dout.size(), 0xdead);
  }

 private:
  struct Slot {
    Words in, out, dout, din;
  };

  Words words() const { return Words(static_cast<std::size_t>(boundary_.elements())); }
  Slot& slot(const InFlight& at) { return slots_.at(at.stage).at(static_cast<std::size_t>(at.slot)); }
  Tensor tensor(Words& words) const { return {words.data(), DType::i64, DeviceKind::cpu, boundary_}; }
  /// Delays ranks by different times, as in a real job; the delays are the same in every run.
  void delay(const InFlight& at) const {
    const Word draw = mix64(bias_of(at.stage, at.microbatch) + static_cast<Word>(rank_));
    if (at.microbatch < 8 && draw % 4 == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(draw / 4 % 300));
  }

  PipelineShape shape_;
  Shape boundary_;
  int rank_;
  std::map<int, std::vector<Slot>> slots_;
};

class Recorder final : public ActionObserver {
 public:
  std::vector<Action> started, done;
  bool ordered = true;

  void on_action_start(const Action& action, Time start) override {
    ordered = ordered && start >= last_;
    last_ = start;
    started.push_back(action);
  }
  void on_action_done(const Action& action, Time start, Time end) override {
    ordered = ordered && start == last_ && end >= start;
    last_ = end;
    done.push_back(action);
  }

 private:
  Time last_{};
};

void check_against_serial(const Program& compute, const Shape& boundary) {
  MpiCommunicator& world = multi_rank::world();
  const PipelineShape& shape = compute.shape;
  const Program lowered = lower_program(compute);
  const ProgramFootprint footprint = validate_program(lowered);
  IntegerStages stages(shape, footprint, world.rank(), boundary);
  ThreadPool threads(1);
  Stream stream(threads);
  Recorder recorder;
  Executor executor(lowered, footprint, stages, world, stream, &recorder);

  const Words expected = serial_gradients(shape, static_cast<std::size_t>(boundary.elements()));
  const std::vector<Action>& actions = lowered.ranks[static_cast<std::size_t>(world.rank())];
  for (int step = 0; step < 2; ++step) {
    stages.gradients.clear();
    recorder = Recorder();
    executor.run();
    CHECK(stages.gradients.size() == static_cast<std::size_t>(shape.virtual_stages));
    for (const auto& [stage, gradient] : stages.gradients) {
      INFO(to_string(shape) << ", step " << step << ", stage " << stage);
      CHECK(gradient == expected[static_cast<std::size_t>(stage)]);
    }
    CHECK(recorder.started == actions);
    CHECK(recorder.done == actions);
    CHECK(recorder.ordered);
  }
}

void check_against_serial(const std::string& schedule, int v, int microbatches, const Shape& boundary) {
  INFO(schedule);
  const int pp = multi_rank::world().size();
  check_against_serial(make_program(schedule, {pp, v, microbatches}), boundary);
}

}  // namespace

TEST_CASE("every schedule computes the gradients of serial execution", "[ranks1][ranks2][ranks3][ranks4]") {
  const auto [schedule, v] = GENERATE(table<std::string, int>({{"gpipe", 1},
                                                               {"gpipe", 2},
                                                               {"1f1b", 1},
                                                               {"interleaved_1f1b", 2},
                                                               {"interleaved_1f1b", 3},
                                                               {"zero_bubble_h1", 1}}));
  const int microbatches = GENERATE(1, 3, 8);
  check_against_serial(schedule, v, microbatches, {2, 3, 4});
}

TEST_CASE("a forward-only program computes the outputs of serial execution", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const PipelineShape shape{world.size(), GENERATE(1, 2), GENERATE(1, 5, 9)};
  const Program lowered = lower_program(forward_only(shape));
  const ProgramFootprint footprint = validate_program(lowered);
  IntegerStages stages(shape, footprint, world.rank(), {2, 2});
  ThreadPool threads(1);
  Stream stream(threads);
  Executor(lowered, footprint, stages, world, stream).run();

  const bool is_last = world.rank() == world.size() - 1;
  CHECK(stages.outputs.size() == (is_last ? static_cast<std::size_t>(shape.microbatches) : 0));
  for (const auto& [microbatch, output] : stages.outputs) {
    Words expected = input_of(microbatch, 4);
    for (int stage = 0; stage < shape.stages(); ++stage) apply_forward(stage, microbatch, expected, expected);
    CHECK(output == expected);
  }
}

TEST_CASE("boundary tensors beyond a transport's eager limit arrive complete", "[ranks1][ranks2][ranks4]") {
  const std::string schedule = GENERATE("1f1b", "zero_bubble_h1");
  check_against_serial(schedule, 1, 6, {4, 64, 128});  // 256 KiB
  check_against_serial("interleaved_1f1b", 2, 6, {4, 64, 128});
}

TEST_CASE("more microbatches than message tags are distinguished by their order", "[ranks2]") {
  check_against_serial("interleaved_1f1b", 32, 300, {1, 1, 2});  // 256 tags per stage and direction
}

TEST_CASE("a program with a different order on each rank and mixed whole and split backwards runs as written",
          "[ranks2]") {
  check_against_serial(parse_program("0F0 0F1 0F2 0I1 0B0 0W1 0B2\n"
                                     "1F2 1F0 1F1 1I1 1B0 1W1 1B2\n"),
                       {1, 2, 3});
}

TEST_CASE("a program for a different number of ranks is a defect", "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const Program lowered = lower_program(one_f_one_b({world.size() + 1, 1, 2}));
  const ProgramFootprint footprint = validate_program(lowered);
  IntegerStages stages(lowered.shape, footprint, world.rank(), {1, 1, 1});
  ThreadPool threads(1);
  Stream stream(threads);
  CHECK_THROWS_AS(Executor(lowered, footprint, stages, world, stream), DefectError);
}
