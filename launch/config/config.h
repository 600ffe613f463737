#pragma once
// The complete configuration of a training run: one struct per section of the configuration file.
// launch/config/options.h declares every member's key, type, bounds and help; the initialisers here are the
// defaults.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"

namespace foretoken {

class DeviceTimes;

struct DataConfig {
  enum class Attention { document, row };

  std::string path;                           // token dataset (HDF5) for training
  std::string validation_path;                // token dataset for evaluation; empty: no evaluation
  std::int64_t sequence_length = 128;         // T
  Attention attention = Attention::document;  // whether attention crosses document borders
};

struct TrainConfig {
  enum class Freeze { none, trunk };
  enum class Precision { automatic, f32, bf16, fp8 };

  std::int64_t steps = 400;
  std::int64_t global_batch = 32;  // rows per step, over all ranks
  std::int64_t microbatch = 4;     // B: rows per microbatch
  std::uint64_t seed = 1;
  std::string init_from;  // run or checkpoint that a new run takes its weights from; empty: new weights
  Freeze freeze = Freeze::none;
  Precision precision =
      Precision::automatic;  // dtype of activations and of the weights that layers compute with
  Recompute recompute = Recompute::none;
  bool deterministic = false;
  std::int64_t skip_limit = 5;  // maximum of consecutive skipped steps
  bool replay_suspicious = false;
  double replay_z = 6;
  std::int64_t evaluate_every = 0;
  std::int64_t evaluate_rows = 64;
  std::int64_t trace_step = 0;  // 0: none
};

struct OptimizerSettings {
  enum class Schedule { constant, cosine, wsd };
  enum class Moments { f32, bf16 };

  double lr = 3e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;      // 0: no clipping
  double heads_clip = 0;  // 0: heads are clipped together with the rest
  Moments moments = Moments::f32;
  Schedule schedule = Schedule::cosine;
  std::int64_t warmup_steps = 20;
  std::int64_t decay_steps = 0;
  double min_lr_ratio = 0.1;
};

struct ParallelConfig {
  int pp = 1;
  int dp = 0;  // 0: world size / pp
  int virtual_stages = 1;
  std::string schedule = "1f1b";  // one of schedule_names()
  bool elastic = false;           // choose another layout if pp × dp differs from the number of ranks
  bool sharded_optimizer = false;
  std::int64_t bucket_mib = 25;
  std::string profile;                   // device profile; empty: constants of model/cost.h
  std::vector<double> blocks_per_stage;  // multiples of ½; empty: assigned by cost
  int threads = 0;                       // 0: MpiWorld::cores()
  int startup_seconds = 600;
  int timeout_seconds = 300;
  std::int64_t check_replicas_every = 100;
  std::int64_t check_state_every = 10;
};

struct CheckpointConfig {
  std::int64_t every = 0;     // steps
  double every_minutes = 10;  // 0: never
  int timeout_seconds = 1800;
  std::int64_t keep = 2;
};

struct RunConfig {
  enum class Device { automatic, cpu, cuda };

  std::string directory = "runs";
  std::string name = "run";
  std::int64_t log_every = 10;  // steps between lines on the console
  Device device = Device::automatic;
};

struct MetricsConfig {
  bool tensorboard = false;
  std::string prometheus;  // file; empty: none
  bool nvtx = false;
};

struct Config {
  ModelConfig model;
  MtpConfig mtp;
  DataConfig data;
  TrainConfig train;
  Fp8Config fp8;
  OptimizerSettings optimizer;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  RunConfig run;
  MetricsConfig metrics;

  /// For messages, the place that set each non-default value: "parallel.pp" -> "train.toml:12" or "--set
  /// parallel.pp=2".
  std::map<std::string, std::string> origins;
  /// The times of parallel.profile, once it is read (launch/session/session.h); null: not read.
  std::shared_ptr<const DeviceTimes> device_times;
};

}  // namespace foretoken
