#pragma once
// A small checkpoint, f32 values with bf16 moments, sharded over ranks in several ways. The ranks are
// threads.

#include <algorithm>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "runtime/error.h"
#include "runtime/random.h"

namespace foretoken {

struct TestTensor {
  std::string kind;
  std::string name;
  Shape shape;

  DType dtype() const { return kind == "model" ? DType::f32 : DType::bf16; }
};

inline std::vector<TestTensor> test_tensors() {
  std::vector<TestTensor> tensors;
  for (const char* kind : {"model", "exp_avg", "exp_avg_sq"}) {
    tensors.push_back({kind, "model.embed_tokens.weight", {257, 12}});
    tensors.push_back({kind, "model.layers.0.mlp.up_proj.weight", {31, 12}});
    tensors.push_back({kind, "model.layers.1.mlp.up_proj.weight", {31, 12}});
    tensors.push_back({kind, "model.layers.1.conv.weight", {3, 5, 7}});
    tensors.push_back({kind, "model.norm.weight", {13}});
  }
  return tensors;
}

/// The value of one element, exactly representable in its dtype. Different values of `salt` stand for
/// different training steps.
inline float test_value(const TestTensor& tensor, std::int64_t element, std::uint64_t salt) {
  const auto value = static_cast<float>(
      CounterRng(salt, tensor.kind + "/" + tensor.name).uniform(static_cast<std::uint64_t>(element)) - 0.5);
  return tensor.dtype() == DType::f32 ? value : static_cast<float>(BFloat16(value));
}

/// The pieces of one rank and their memory.
struct RankPieces {
  RankPieces() = default;
  RankPieces(const RankPieces&) = delete;  // the pieces point into the memory
  RankPieces(RankPieces&&) = default;
  RankPieces& operator=(RankPieces&&) = default;

  std::deque<std::vector<std::byte>> memory;
  std::vector<CheckpointPiece> pieces;

  void add(const TestTensor& tensor, const Range& range, std::uint64_t salt) {
    const auto count = static_cast<std::size_t>(range.size());
    std::vector<std::byte>& bytes = memory.emplace_back(count * size_of(tensor.dtype()));
    const Tensor data = tensor_over(bytes.data(), count, tensor.dtype(), {range.size()});
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const float value = test_value(tensor, i, salt);
      if (data.dtype == DType::f32)
        data.as<float>()[i - range.begin] = value;
      else
        data.as<BFloat16>()[i - range.begin] = BFloat16(value);
    }
    pieces.push_back({tensor.kind, tensor.name, tensor.shape, range, data});
  }
};

/// Pieces that are whole tensors, assigned to the ranks round-robin.
inline std::vector<RankPieces> cut_by_tensor(int ranks, std::uint64_t salt) {
  std::vector<RankPieces> cut(static_cast<std::size_t>(ranks));
  std::size_t next = 0;
  for (const TestTensor& tensor : test_tensors())
    cut[next++ % cut.size()].add(tensor, {0, tensor.shape.elements()}, salt);
  return cut;
}

/// Pieces that divide every tensor into one nearly equal part per rank, as a sharded optimizer does.
inline std::vector<RankPieces> cut_evenly(int ranks, std::uint64_t salt) {
  std::vector<RankPieces> cut(static_cast<std::size_t>(ranks));
  for (const TestTensor& tensor : test_tensors())
    for (int rank = 0; rank < ranks; ++rank) {
      const std::int64_t elements = tensor.shape.elements();
      cut[static_cast<std::size_t>(rank)].add(tensor,
                                              {elements * rank / ranks, elements * (rank + 1) / ranks}, salt);
    }
  return cut;
}

/// Pieces that are short ranges of odd lengths, assigned round-robin: each rank has many pieces of a tensor.
inline std::vector<RankPieces> cut_raggedly(int ranks, std::uint64_t salt) {
  std::vector<RankPieces> cut(static_cast<std::size_t>(ranks));
  std::size_t next = 0;
  for (const TestTensor& tensor : test_tensors())
    for (std::int64_t begin = 0; begin < tensor.shape.elements();) {
      const std::int64_t end =
          std::min(tensor.shape.elements(), begin + 1 + static_cast<std::int64_t>(mix64(next) % 701));
      cut[next++ % cut.size()].add(tensor, {begin, end}, salt);
      begin = end;
    }
  return cut;
}

inline CheckpointInfo test_info(std::int64_t step, int ranks) {
  CheckpointInfo info;
  info.step = step;
  info.tokens = step * 4096;
  info.samples = step * 8;
  info.grid = {ranks, 1, 1};
  info.seed = 0xfedcba9876543210u;
  info.conventions = {{"concat", "embedding_first"}, {"trunk_hidden", "normed"}};
  info.config = "[model]\nhidden_size = 12\nname = \"Größe\"\n";
  info.tokenizer = {.name = "bytes",
                    .digest = "7616142adcc6254c5795ed877f813edd",
                    .vocab_size = 257,
                    .end_of_document = 256};
  return info;
}

/// Runs body(rank, barrier) on `ranks` threads; returns the exception of each thread, or null. A barrier does
/// not wait for a rank that has thrown. Only the caller may make assertions, because the test framework
/// supports assertions on one thread only.
inline std::vector<std::exception_ptr> on_ranks(
    int ranks, const std::function<void(int, const std::function<void()>&)>& body) {
  std::barrier barrier(ranks);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        body(rank, [&] { barrier.arrive_and_wait(); });
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
      }
      barrier.arrive_and_drop();
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// Saves one checkpoint and waits for it; one thread stands for each rank.
inline void save_checkpoint(const std::filesystem::path& directory, std::int64_t step,
                            const std::vector<RankPieces>& cut, const CheckpointWriterOptions& options = {}) {
  const int ranks = static_cast<int>(cut.size());
  const auto errors = on_ranks(ranks, [&](int rank, const std::function<void()>& barrier) {
    CheckpointWriter writer(directory, rank, ranks, options);
    writer.save(test_info(step, ranks), cut[static_cast<std::size_t>(rank)].pieces, barrier);
    writer.finish();
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

/// The exit code and message of the error that `call` throws; empty if it throws none.
inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
  }
  return {};
}

/// Describes the difference between the checkpoint, read as f32, and the model at `salt`; empty if every
/// element is bitwise equal.
inline std::string difference(const Checkpoint& checkpoint, std::uint64_t salt) {
  for (const TestTensor& tensor : test_tensors()) {
    const std::int64_t elements = tensor.shape.elements();
    std::vector<float> values(static_cast<std::size_t>(elements));
    checkpoint.read(tensor.kind, tensor.name, {0, elements},
                    tensor_over(std::span<float>(values), tensor.shape));
    for (std::int64_t i = 0; i < elements; ++i)
      if (const float expected = test_value(tensor, i, salt); values[static_cast<std::size_t>(i)] != expected)
        return fmt::format("{} of {}: element {} is {}, expected {}", tensor.kind, tensor.name, i,
                           values[static_cast<std::size_t>(i)], expected);
  }
  return {};
}

}  // namespace foretoken
