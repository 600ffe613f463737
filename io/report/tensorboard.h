#pragma once
// TensorBoard event files: the numbers of metrics.jsonl as scalars.
//
// Each launch of the program writes one file, "events.out.tfevents.1764321000.host.4711". Its name starts
// with the time in seconds, made later than that of the newest file in the folder, because TensorBoard reads
// the files in the order of their names. A file is a sequence of TFRecords, little-endian:
//
//   uint64 length | uint32 masked CRC-32C of the length | message | uint32 masked CRC-32C of the message
//
// Each message is an Event in protobuf's wire format (tensorflow/core/util/event.proto):
//
//   Event       1: double wall_time   2: int64 step   3: string file_version   5: Summary   7: SessionLog
//   Summary     1: Value, repeated    Value  1: string tag   2: float simple_value
//   SessionLog  1: status, START = 1
//
// The first event has the file version "brain.Event:2", the second a SessionLog START. TensorBoard then drops
// the events of earlier files from that step on, so steps of a launch that was killed after its last
// checkpoint, and steps of an abandoned branch, are not shown.
//
// Tags: "loss" -> "loss/objective", "mtp1_loss" -> "loss/mtp1", "mtp1_acceptance" -> "acceptance/mtp1"; other
// names as in metrics.jsonl: "lr", "grad_norm", "tokens_per_second". Numbers of evaluations follow
// "evaluation/".

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "io/files/durable_file.h"

namespace foretoken {

class TensorboardSink {
 public:
  /// Opens a new file in `folder`, which is created. Events of earlier files from step `from` on are dropped;
  /// the lines of `history` (metrics.jsonl) from that step on are written again. If the folder has no event
  /// file, `from` is 0, so the first file of a run has its whole history. Throws a DataError if the file
  /// cannot be opened. A failed write is reported once and leaves no partial event; later events are tried
  /// again.
  TensorboardSink(const std::filesystem::path& folder, const std::filesystem::path& history,
                  std::int64_t from, std::function<void(const std::string&)> warn);

  /// Writes the numbers of a line of metrics.jsonl; `seconds`: UTC, since 1970.
  void write(const nlohmann::ordered_json& line, double seconds);
  /// Returns when all events are on disk. Callable from another thread. Throws a DataError on failure.
  void sync() { file_.sync(); }

 private:
  void write_history(const std::filesystem::path& history, std::int64_t from);
  void append(const std::string& records);
  void warn_once(const char* message);

  std::function<void(const std::string&)> warn_;
  AppendedFile file_;
  std::string header_;  // written with the first event; then empty
  bool warned_ = false;
};

/// The tag of a number in metrics.jsonl; empty if it is not shown.
std::string tensorboard_tag(const std::string& kind, const std::string& name);

}  // namespace foretoken
