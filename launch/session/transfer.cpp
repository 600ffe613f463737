#include "launch/session/transfer.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/config_loader.h"
#include "launch/config/options.h"
#include "model/layout.h"
#include "model/parameter_names.h"
#include "model/unit_id.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// Settings that determine the main model's tensors; its other sizes are in their shapes.
constexpr const char* structure[] = {"num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                     "head_dim", "tie_word_embeddings"};

std::vector<ParameterUnit> whole_model(const Config& config) {
  return units_of(config.model, config.mtp, one_stage(config.model), 0);
}

void require_same_structure(const Checkpoint& checkpoint, const Config& found, const Config& config) {
  for (const char* key : structure) {
    const Option& option = *find_option("model", key);
    if (option.get(found) != option.get(config))
      throw usage_error(config, {option.name()}, "{}: checkpoint {} has {}, but the new run has {}",
                        option.name(), checkpoint.directory().string(), to_toml(option.get(found)),
                        to_toml(option.get(config)));
  }
}

/// Checks that the checkpoint has all kept tensors in the run's shapes, and no tensor that neither the run
/// nor the checkpoint's settings define.
void check_tensors(const Checkpoint& checkpoint, const Transfer& transfer) {
  std::set<std::string> known;
  for (const ParameterUnit& unit : transfer.kept)
    for (const ParameterSpec& spec : unit.specs) {
      const Shape& shape = checkpoint.pieces("model", spec.name).front().shape;
      if (shape != spec.shape)
        throw UsageError("checkpoint {}: {} has shape {}, but the new run has {}",
                         checkpoint.directory().string(), spec.name, to_string(shape), to_string(spec.shape));
      known.insert(spec.name);
    }
  for (const ParameterUnit& unit : transfer.dropped)
    for (const ParameterSpec& spec : unit.specs) known.insert(spec.name);
  for (const PieceRecord& piece : checkpoint.manifest().pieces)
    if (piece.kind == "model" && !known.contains(piece.tensor))
      throw DataError("checkpoint {}: contains {}, which is not a tensor of the model in its settings",
                      checkpoint.directory().string(), piece.tensor);
}

bool same_heads(const CheckpointInfo& info, const Config& config) {
  auto found = info.conventions, expected = conventions_of(config);
  found.erase("mtp.depths");
  expected.erase("mtp.depths");
  return found == expected;
}

/// Example: "embedding, layer 0-6, final norm, mtp 1-2, head".
std::string names_of(const std::vector<ParameterUnit>& units) {
  std::vector<std::string> names;
  for (auto unit = units.begin(); unit != units.end();) {
    const UnitId first = id_of(*unit);
    UnitId last = first;
    const auto follows = [&] { return id_of(*unit) == UnitId{last.kind, last.number + 1}; };
    for (++unit; first.number >= 0 && unit != units.end() && follows(); ++unit) ++last.number;
    names.push_back(to_string(first) + (last == first ? "" : fmt::format("-{}", last.number)));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Example: "model.layers.7 to 9, each: enorm.weight, hnorm.weight, ...". All heads of a model have the same
/// tensors.
std::string tensors_of(const std::vector<ParameterUnit>& heads) {
  const auto layer = [](const ParameterUnit& unit) {  // "model.layers.7"
    const std::string& name = unit.specs.front().name;
    return name.substr(0, name.find('.', block_prefix(0).size() - 1));
  };
  const std::string first = layer(heads.front()), last = layer(heads.back());
  std::vector<std::string> names;
  for (const ParameterSpec& spec : heads.front().specs)
    names.push_back(spec.name.substr(first.size() + 1) +
                    (spec.copy_of.empty() ? "" : fmt::format(" (from {})", spec.copy_of)));
  const std::string others =
      heads.size() == 1 ? "" : fmt::format(" to {}, each", last.substr(last.find_last_of('.') + 1));
  return fmt::format("\n             {}{}: {}", first, others, fmt::join(names, ", "));
}

/// The main model's tensor of this name.
const ParameterSpec& kept_tensor(const Transfer& transfer, const std::string& name) {
  for (const ParameterUnit& unit : transfer.kept)
    for (const ParameterSpec& spec : unit.specs)
      if (spec.name == name) return spec;
  throw DefectError("transfer: {} is not kept", name);
}

/// Example: "kept       40 tensors, 35344 parameters: embedding, layer 0-6, ...".
std::string line_of(const char* what, const std::vector<ParameterUnit>& units) {
  std::size_t tensors = 0;
  std::int64_t elements = 0;
  for (const ParameterUnit& unit : units) {
    tensors += unit.specs.size();
    for (const ParameterSpec& spec : unit.specs) elements += spec.shape.elements();
  }
  if (units.empty()) return fmt::format("  {:<9}none", what);
  // Drawn and dropped units are heads only; kept units start with the main model.
  const bool heads = units.front().head;
  return fmt::format("  {:<9}{} tensor{}, {} parameters: {}{}", what, tensors, tensors == 1 ? "" : "s",
                     elements, names_of(units), heads ? tensors_of(units) : "");
}

}  // namespace

Transfer plan_transfer(const Checkpoint& checkpoint, const Config& config) {
  const Config found = settings_of(checkpoint);
  require_same_structure(checkpoint, found, config);
  const std::vector<ParameterUnit> old_heads = head_units(found.model, found.mtp);
  const std::size_t common = same_heads(checkpoint.info(), config)
                                 ? std::min(old_heads.size(), head_units(config.model, config.mtp).size())
                                 : 0;
  Transfer transfer;
  std::size_t heads = 0;
  for (ParameterUnit& unit : whole_model(config)) {
    const bool lacking = unit.head && heads++ >= common;
    (lacking ? transfer.drawn : transfer.kept).push_back(std::move(unit));
  }
  transfer.dropped.assign(old_heads.begin() + static_cast<std::ptrdiff_t>(common), old_heads.end());
  check_tensors(checkpoint, transfer);
  return transfer;
}

std::string to_string(const Transfer& transfer) {
  return fmt::format("{}\n{}\n{}", line_of("kept", transfer.kept), line_of("drawn", transfer.drawn),
                     line_of("dropped", transfer.dropped));
}

std::string transfer_weights(const std::string& path, const Config& config,
                             const TokenizerIdentity& tokenizer, Parameters& parameters, Stream& stream,
                             Communicator& world, Console& console) {
  Transfer transfer;
  const auto weights = [&](const Checkpoint& checkpoint) {
    require_same_tokenizer(checkpoint, tokenizer);
    transfer = plan_transfer(checkpoint, config);
    const auto is_drawn = [&](const ParameterUnit& unit) {
      return std::any_of(transfer.drawn.begin(), transfer.drawn.end(),
                         [&](const ParameterUnit& drawn) { return id_of(drawn) == id_of(unit); });
    };
    std::vector<StatePiece> pieces;
    for (const ParameterUnit& unit : parameters.units())
      for (const ParameterSpec& spec : unit.specs) {
        if (is_drawn(unit) && spec.copy_of.empty()) continue;
        StatePiece piece = weight_piece(parameters, spec);
        if (is_drawn(unit)) piece.spec = &kept_tensor(transfer, spec.copy_of);
        pieces.push_back(piece);
      }
    return pieces;
  };
  const CheckpointInfo info = load_newest(path, weights, stream, world, console).info();
  parameters.round_weights(stream);
  return fmt::format("weights    from {} at step {}, {} tokens\n{}", path, info.step, info.tokens,
                     to_string(transfer));
}

}  // namespace foretoken
