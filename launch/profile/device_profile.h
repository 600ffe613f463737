#pragma once
// Measured times of one device for the shapes of a configuration: the file that `foretoken plan --measure`
// writes. launch/docs/profile.md describes its fields.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launch/config/config.h"
#include "parallel/planning/stage_durations.h"
#include "runtime/tensor.h"

namespace foretoken {

struct DeviceProfile {
  /// One part of the model with one microbatch. Parts: "attention" and "mlp" (the halves of a layer);
  /// "attention_bf16" and "mlp_bf16" if FP8 leaves out some layers; "embedding"; "heads" (main head and all
  /// prediction heads, with their losses); and, each on a stage of its own, "main_head" and "depth_1",
  /// "depth_2", ...
  struct Part {
    std::string name;
    Recompute recompute = Recompute::none;
    std::int64_t microbatch = 1;  // rows
    StageDurations seconds;       // medians
    double spread = 0;            // interquartile range of forward + backward, relative to its median
    std::int64_t repetitions = 0;
  };

  std::string device;                           // "NVIDIA H100 80GB HBM3", or "cpu" and the processor's name
  std::string compute_capability;               // "9.0"; empty on the CPU
  std::string driver;                           // empty on the CPU
  std::string commit;                           // of the program
  std::string date;                             // "2026-11-28T22:10:00Z"
  int threads = 1;                              // of a rank
  int ranks = 1;                                // that measured at the same time
  std::map<std::string, std::string> settings;  // measured_settings()
  std::vector<Part> parts;

  // Work of a step that is proportional to the parameters of a rank, in seconds per parameter:
  double update = 0;              // AdamW
  double gradient_norm = 0;       // Σ g²
  double start = 0;               // zeroing gradients, FP8 copies of weights
  double host = 0;                // s of a step in which the device waits for the host
  std::size_t process_bytes = 0;  // that a process occupies on its device beside its tensors

  DeviceKind kind() const { return device.starts_with("cpu") ? DeviceKind::cpu : DeviceKind::cuda; }
};

/// The settings that measured times depend on, as TOML by name: dimensions of a layer and of the heads,
/// sequence length, precision on this kind of device, moments. The number of layers is not one of them.
std::map<std::string, std::string> measured_settings(const Config& config, DeviceKind kind);

/// The file's content, with a digest.
std::string to_json_text(const DeviceProfile& profile);

/// Checks format, version, digest, types and ranges; `name` is the file, for messages. A text without a
/// digest is accepted, so that a person may edit a profile. Throws a DataError.
DeviceProfile profile_from(std::string_view json, const std::string& name);
/// Whether the text is a device profile of any version, sound or not.
bool is_profile(std::string_view json);
/// Reads the file. Throws a DataError.
DeviceProfile read_profile(const std::string& path);
/// Largest file that is read.
inline constexpr std::int64_t most_profile_bytes = std::int64_t{16} << 20;

}  // namespace foretoken
