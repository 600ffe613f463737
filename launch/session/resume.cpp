#include "launch/session/resume.h"

#include <cstddef>
#include <optional>

#include "io/checkpoint/lineage.h"
#include "launch/config/config_loader.h"
#include "launch/config/options.h"
#include "launch/session/agreement.h"
#include "model/heads/head_facts.h"
#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

/// Throws unless the conventions agree. A convention that only one side states is a difference too. The kind
/// of heads determines which conventions exist, so it is compared first.
void require_same_conventions(const CheckpointInfo& info, const Config& config) {
  struct Values {
    std::string found = "unstated", expected = "unstated";
  };
  std::map<std::string, Values> conventions;
  for (const auto& [name, value] : info.conventions) conventions[name].found = value;
  for (const auto& [name, value] : conventions_of(config)) conventions[name].expected = value;
  const auto require_same = [&](const std::string& name) {
    const Values& values = conventions[name];
    if (values.found != values.expected)
      throw UsageError("checkpoint: trained with {} {}, but this run has {}", name, values.found,
                       values.expected);
  };
  require_same("mtp.kind");
  for (const auto& [name, values] : conventions) require_same(name);
}

/// Reads a piece into host memory, or into GPU memory through a host buffer.
void read_piece(const Checkpoint& checkpoint, const StatePiece& piece, Stream& stream) {
  if (piece.data.device == DeviceKind::cpu)
    return checkpoint.read(piece.kind, piece.spec->name, piece.range, piece.data);
  std::vector<std::byte> bytes(piece.data.bytes());
  const Tensor host{bytes.data(), piece.data.dtype, DeviceKind::cpu, piece.data.shape};
  checkpoint.read(piece.kind, piece.spec->name, piece.range, host);
  copy(stream, host, piece.data);
  stream.synchronize();
}

/// Reports that the run keeps its moments in another dtype than the checkpoint.
void report_conversion(const Checkpoint& checkpoint, const std::vector<StatePiece>& pieces,
                       Console& console) {
  for (const StatePiece& piece : pieces) {
    const DType saved = checkpoint.pieces(piece.kind, piece.spec->name).front().dtype;
    if (saved == piece.data.dtype) continue;
    return console.line(fmt::format("resume     moments are converted from {} to {}", name_of(saved),
                                    name_of(piece.data.dtype)));
  }
}

}  // namespace

std::map<std::string, std::string> conventions_of(const Config& config) {
  std::map<std::string, std::string> conventions;
  const auto state = [&](const char* key) {
    const OptionValue value = find_option("mtp", key)->get(config);
    const auto* text = std::get_if<std::string>(&value);
    conventions[fmt::format("mtp.{}", key)] = text ? *text : to_toml(value);
  };
  state("kind");
  state("depths");
  for (const char* key : head_facts(config.mtp.kind).settings)
    if (find_option("mtp", key)->get(config) != OptionValue(false)) state(key);
  return conventions;
}

void restore_objective(Objective& objective, const CheckpointInfo& info, const Config& config) {
  objective.set_tokens_seen(info.tokens);
  if (config.mtp.balance == MtpConfig::Balance::dynamic && !info.balance.empty())
    objective.restore_balance(info.balance);
}

std::vector<CheckpointPiece> checkpoint_pieces(const std::vector<StatePiece>& pieces) {
  std::vector<CheckpointPiece> result;
  for (const StatePiece& piece : pieces)
    result.push_back({.kind = piece.kind,
                      .tensor = piece.spec->name,
                      .shape = piece.spec->shape,
                      .range = piece.range,
                      .data = piece.data});
  return result;
}

StatePiece weight_piece(const Parameters& parameters, const ParameterSpec& spec) {
  return {.kind = "model",
          .spec = &spec,
          .range = {0, spec.shape.elements()},
          .data = parameters.value(spec.name)};
}

std::vector<StatePiece> weight_pieces(const Parameters& parameters) {
  std::vector<StatePiece> pieces;
  for (const ParameterUnit& unit : parameters.units())
    for (const ParameterSpec& spec : unit.specs) pieces.push_back(weight_piece(parameters, spec));
  return pieces;
}

Checkpoint newest_readable(const std::string& path) {
  for (int listing = 1;; ++listing) {
    std::string first_error;
    bool vanished = false;
    for (const auto& directory : checkpoints_at(path)) try {
        return Checkpoint::open(directory);
      } catch (const DataError& error) {
        vanished = vanished || has_vanished(directory);
        if (first_error.empty()) first_error = error.what();
      }
    if (!vanished || listing == listings_tried) throw DataError("{}", first_error);
  }
}

Config settings_of(const Checkpoint& checkpoint) {
  Config config;
  apply_toml(config, checkpoint.info().config, (checkpoint.directory() / manifest_name).string());
  return config;
}

void require_same_tokenizer(const Checkpoint& checkpoint, const TokenizerIdentity& tokenizer) {
  if (checkpoint.info().tokenizer != tokenizer)
    throw DataError("checkpoint: {}: was trained with tokenizer {}, but the dataset was made with {}",
                    checkpoint.directory().string(), to_string(checkpoint.info().tokenizer),
                    to_string(tokenizer));
}

namespace {

/// Calls checkpoints_at() on rank 0 only: all ranks must try the same checkpoints while another job saves and
/// retires checkpoints.
std::vector<std::string> agreed_listing(const std::string& path, Communicator& world) {
  std::string listing, message;
  if (world.rank() == 0) try {
      for (const auto& directory : checkpoints_at(path)) listing += directory.string() + '\n';
    } catch (const Error& error) {
      message = error.what();
    }
  if (message = first_error(world, message); !message.empty()) throw DataError("{}", message);
  listing = broadcast_text(world, listing);
  std::vector<std::string> directories;
  for (std::size_t begin = 0; begin < listing.size(); begin = listing.find('\n', begin) + 1)
    directories.push_back(listing.substr(begin, listing.find('\n', begin) - begin));
  return directories;
}

/// Reads the pieces that pieces_of() requests. Returns the error message of the first rank that failed; empty
/// if no rank failed.
std::string try_to_load(const std::string& directory, const PiecesOf& pieces_of, Stream& stream,
                        Communicator& world, Console& console, std::optional<Checkpoint>& checkpoint) {
  std::string message;
  try {
    checkpoint = Checkpoint::open(directory);
  } catch (const Error& error) {
    message = error.what();
  }
  if (message = first_error(world, message); !message.empty()) return message;
  const std::vector<StatePiece> pieces = pieces_of(*checkpoint);
  try {
    for (const StatePiece& piece : pieces) read_piece(*checkpoint, piece, stream);
  } catch (const Error& error) {
    message = error.what();
  }
  message = first_error(world, message);
  if (message.empty()) report_conversion(*checkpoint, pieces, console);
  return message;
}

/// Reports that the loaded checkpoint is suspect, or which newer checkpoints were skipped because they are
/// suspect.
void report_suspects(const Checkpoint& loaded, const std::vector<std::string>& listing, Console& console) {
  for (const std::string& directory : listing) try {
      const CheckpointInfo info = read_manifest(std::filesystem::path(directory) / manifest_name).info;
      if (info.suspect.empty() || info.step < loaded.info().step) continue;
      const bool passed_over = info.step > loaded.info().step;
      console.warn(fmt::format("{} is marked suspect: {}{}", directory, info.suspect,
                               passed_over ? "; it is skipped: name this checkpoint to use it anyway" : ""));
    } catch (const DataError&) {  // unreadable, so not the checkpoint that was loaded
    }
}

}  // namespace

Checkpoint load_newest(const std::string& path, const PiecesOf& pieces_of, Stream& stream,
                       Communicator& world, Console& console) {
  for (int listing = 1;; ++listing) {
    std::string message;
    bool vanished = false;
    const std::vector<std::string> directories = agreed_listing(path, world);
    for (const std::string& directory : directories) {
      std::optional<Checkpoint> checkpoint;
      message = try_to_load(directory, pieces_of, stream, world, console, checkpoint);
      if (message.empty()) {
        if (world.rank() == 0) report_suspects(*checkpoint, directories, console);
        return std::move(*checkpoint);
      }
      // If a training job in the run has retired the checkpoint, there is a newer one.
      vanished = !first_error(world, has_vanished(directory) ? directory : "").empty();
      if (vanished && listing < listings_tried) break;
      console.warn(fmt::format("{}; trying the previous checkpoint", message));
    }
    if (!vanished || listing == listings_tried)
      throw DataError("{}: every checkpoint is damaged; the oldest: {}", path, message);
  }
}

Checkpoint load_checkpoint(const std::string& path, const Config& config, const TokenizerIdentity& tokenizer,
                           const std::vector<StatePiece>& pieces, Stream& stream, Communicator& world,
                           Console& console) {
  const auto all = [&](const Checkpoint& checkpoint) {
    require_same_conventions(checkpoint.info(), config);
    require_same_tokenizer(checkpoint, tokenizer);
    return pieces;
  };
  return load_newest(path, all, stream, world, console);
}

}  // namespace foretoken
