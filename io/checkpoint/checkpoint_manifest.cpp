#include "io/checkpoint/checkpoint_manifest.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "io/files/bounded_json.h"
#include "io/files/digest.h"
#include "io/files/durable_file.h"
#include "io/files/text_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::json;

constexpr std::int64_t oldest_manifest_format = 1, manifest_format = 2, branch_format = 1;

Json to_json(const std::vector<ShardFile>& files) {
  Json list = Json::array();
  for (const ShardFile& file : files)
    list.push_back({{"name", file.name}, {"bytes", file.bytes}, {"digest", file.digest}});
  return list;
}

Json to_json(const std::vector<PieceRecord>& pieces) {
  Json list = Json::array();
  for (const PieceRecord& piece : pieces) {
    Json shape = Json::array();
    for (std::int64_t dim : piece.shape.dims()) shape.push_back(dim);
    list.push_back({{"kind", piece.kind},
                    {"tensor", piece.tensor},
                    {"shape", shape},
                    {"dtype", name_of(piece.dtype)},
                    {"offset", piece.range.begin},
                    {"count", piece.range.size()},
                    {"file", piece.file},
                    {"dataset", piece.dataset},
                    {"address", piece.address},
                    {"digest", piece.digest}});
  }
  return list;
}

Json to_json(const DatasetRecord& record) {
  return {{"path", record.path}, {"identity", record.identity}};
}

Json to_json(const TokenizerIdentity& tokenizer) {
  return {{"name", tokenizer.name},
          {"digest", tokenizer.digest},
          {"vocab_size", tokenizer.vocab_size},
          {"end_of_document", tokenizer.end_of_document}};
}

Json to_json(const Lineage& lineage) {
  Json ancestors = Json::array();
  for (const Lineage::Ancestor& each : lineage.ancestors)
    ancestors.push_back({{"branch", each.branch}, {"until", each.until}});
  return {{"branch", lineage.branch}, {"ancestors", ancestors}};
}

Json to_json(const CheckpointInfo& info) {
  Json json = {
      {"id", info.id},
      {"lineage", to_json(info.lineage)},
      {"step", info.step},
      {"tokens", info.tokens},
      {"samples", info.samples},
      {"grid", {{"pp", info.grid.pp}, {"dp", info.grid.dp}, {"virtual_stages", info.grid.virtual_stages}}},
      {"seed", info.seed},
      {"conventions", info.conventions},
      {"config", info.config},
      {"tokenizer", to_json(info.tokenizer)},
      {"created", info.created}};
  if (info.parent.step >= 0) json["parent"] = {{"id", info.parent.id}, {"step", info.parent.step}};
  if (!info.balance.empty()) json["balance"] = info.balance;
  if (info.skipped > 0) json["skipped"] = info.skipped;
  if (info.skipped_in_a_row > 0) json["skipped_in_a_row"] = info.skipped_in_a_row;
  if (!info.suspect.empty()) json["suspect"] = info.suspect;
  if (info.training_data) json["data"]["training"] = to_json(*info.training_data);
  if (info.validation_data) json["data"]["validation"] = to_json(*info.validation_data);
  return json;
}

// Readers. nlohmann's conversions turn 1.5 into 1 and 2⁶³ into a negative number, so integers are checked
// explicitly. Every exception below becomes a DataError that names the file.
std::int64_t natural(const Json& json) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    throw DataError("expected a whole number, found {}", brief(json));
  return json.get<std::int64_t>();
}

int small_natural(const Json& json) {
  const std::int64_t value = natural(json);
  if (value < 1 || value > std::numeric_limits<int>::max())
    throw DataError("expected a number of ranks, found {}", value);
  return static_cast<int>(value);
}

DType dtype_named(const std::string& name) {
  for (DType dtype :
       {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::u16, DType::u32})
    if (name == name_of(dtype)) return dtype;
  throw DataError("dtype {} is unknown", name);
}

Shape shape_from(const Json& json) {
  if (!json.is_array() || json.empty() || json.size() > Shape::max_rank)
    throw DataError("expected a shape of 1 to {} dims, found {}", Shape::max_rank, brief(json));
  std::vector<std::int64_t> dims;
  // Eight bytes per element must fit, so that no later product of sizes overflows.
  std::int64_t room = std::numeric_limits<std::int64_t>::max() / 8;
  for (const Json& entry : json) {
    dims.push_back(natural(entry));
    if (dims.back() < 1 || dims.back() > room) throw DataError("shape {} is out of range", json.dump());
    room /= dims.back();
  }
  return Shape(dims);
}

std::vector<ShardFile> files_from(const Json& json) {
  std::vector<ShardFile> files;
  std::set<std::string> names;
  for (const Json& entry : json) {
    ShardFile file{entry.at("name").get<std::string>(), natural(entry.at("bytes")),
                   entry.at("digest").get<std::string>()};
    if (file.name.empty() || file.name.find('/') != std::string::npos || file.name[0] == '.')
      throw DataError("'{}' is not a valid shard name", file.name);
    if (!names.insert(file.name).second) throw DataError("file {} is listed twice", file.name);
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<PieceRecord> pieces_from(const Json& json, const std::vector<ShardFile>& files) {
  std::map<std::string, std::int64_t> file_bytes;
  for (const ShardFile& file : files) file_bytes[file.name] = file.bytes;
  std::vector<PieceRecord> pieces;
  for (const Json& entry : json) {
    PieceRecord piece;
    piece.kind = entry.at("kind").get<std::string>();
    piece.tensor = entry.at("tensor").get<std::string>();
    piece.shape = shape_from(entry.at("shape"));
    piece.dtype = dtype_named(entry.at("dtype").get<std::string>());
    const std::int64_t offset = natural(entry.at("offset"));
    const std::int64_t count = natural(entry.at("count"));
    const std::int64_t elements = piece.shape.elements();
    const std::string name = describe(piece.kind, piece.tensor);
    if (count < 1 || count > elements || offset > elements - count)
      throw DataError("{}: {} elements at offset {} are out of range for a tensor of {}", name, count, offset,
                      elements);
    piece.range = {offset, offset + count};
    piece.file = entry.at("file").get<std::string>();
    piece.dataset = entry.at("dataset").get<std::string>();
    piece.digest = entry.at("digest").get<std::string>();
    piece.address = natural(entry.at("address"));
    const auto file = file_bytes.find(piece.file);
    if (file == file_bytes.end())
      throw DataError("{} is in file '{}', which the manifest does not list", name, piece.file);
    if (piece.bytes() > file->second || piece.address > file->second - piece.bytes())
      throw DataError("{}: {} bytes at address {} are out of range for file {} of {} bytes", name,
                      piece.bytes(), piece.address, piece.file, file->second);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

std::vector<double> balance_from(const Json& json) {
  std::vector<double> balance;
  for (const Json& entry : json) {
    if (!entry.is_number() || !(entry.get<double>() > 0))
      throw DataError("balance is {}, expected a number above 0", brief(entry));
    balance.push_back(entry.get<double>());
  }
  return balance;
}

std::optional<DatasetRecord> record_from(const Json& info, const char* name) {
  if (!info.contains("data") || !info.at("data").contains(name)) return std::nullopt;
  const Json& json = info.at("data").at(name);
  return DatasetRecord{json.at("path").get<std::string>(), json.at("identity").get<std::string>()};
}

TokenizerIdentity tokenizer_from(const Json& json) {
  if (json.is_string()) {  // format 1
    if (const auto identity = parse_tokenizer_identity(json.get<std::string>())) return *identity;
    throw DataError("{} is not the identity of a tokenizer", brief(json));
  }
  const std::int64_t end = natural(json.at("end_of_document"));
  if (end > std::numeric_limits<std::int32_t>::max())
    throw DataError("end_of_document is {}, out of range for any vocabulary", end);
  return {.name = json.at("name").get<std::string>(),
          .digest = json.at("digest").get<std::string>(),
          .vocab_size = natural(json.at("vocab_size")),
          .end_of_document = static_cast<std::int32_t>(end)};
}

Lineage lineage_from(const Json& json) {
  Lineage lineage{.branch = natural(json.at("branch")), .ancestors = {}};
  for (const Json& entry : json.at("ancestors"))
    lineage.ancestors.push_back({.branch = natural(entry.at("branch")), .until = natural(entry.at("until"))});
  if (lineage.branch < 1) throw DataError("branch is {}, expected at least 1", lineage.branch);
  return lineage;
}

CheckpointInfo info_from(const Json& json) {
  CheckpointInfo info;
  if (json.contains("id")) info.id = json.at("id").get<std::string>();
  if (json.contains("lineage")) info.lineage = lineage_from(json.at("lineage"));
  if (json.contains("parent"))
    info.parent = {.id = json.at("parent").at("id").get<std::string>(),
                   .step = natural(json.at("parent").at("step"))};
  info.step = natural(json.at("step"));
  info.tokens = natural(json.at("tokens"));
  info.samples = natural(json.at("samples"));
  const Json& grid = json.at("grid");
  info.grid = {small_natural(grid.at("pp")), small_natural(grid.at("dp")),
               small_natural(grid.at("virtual_stages"))};
  constexpr double most = std::numeric_limits<int>::max();
  if (double{1} * info.grid.pp * info.grid.dp > most ||
      double{1} * info.grid.pp * info.grid.virtual_stages > most)
    throw DataError("layout {} is out of range", to_string(info.grid));
  if (!json.at("seed").is_number_unsigned())
    throw DataError("seed is {}, expected a whole number", brief(json.at("seed")));
  info.seed = json.at("seed").get<std::uint64_t>();
  if (json.contains("skipped")) info.skipped = natural(json.at("skipped"));
  if (json.contains("skipped_in_a_row")) info.skipped_in_a_row = natural(json.at("skipped_in_a_row"));
  if (json.contains("suspect")) info.suspect = json.at("suspect").get<std::string>();
  if (json.contains("balance")) info.balance = balance_from(json.at("balance"));
  info.conventions = json.at("conventions").get<std::map<std::string, std::string>>();
  info.config = json.at("config").get<std::string>();
  info.tokenizer = tokenizer_from(json.at("tokenizer"));
  info.training_data = record_from(json, "training");
  info.validation_data = record_from(json, "validation");
  info.created = json.at("created").get<std::string>();
  return info;
}

/// Parses the file and passes it to `convert`; errors of either become DataErrors naming the file.
template <class Convert>
auto read_json(const std::filesystem::path& file, Convert convert) {
  const std::string text = read_text_file(file, most_manifest_bytes);
  try {
    return convert(parse_json_bounded(text));
  } catch (const Json::exception& error) {
    throw DataError("{}: damaged: {}", file.string(), error.what());
  } catch (const Error& error) {
    throw DataError("{}: {}", file.string(), error.what());
  }
}

void require_digest(const std::string& stored, const Json& body) {
  if (const std::string actual = digest_of(body.dump()); actual != stored)
    throw DataError("damaged: digest differs (stored {}, content {})", abbreviated(stored),
                    abbreviated(actual));
}

}  // namespace

std::string manifest_text(const CheckpointManifest& manifest) {
  Json body = to_json(manifest.info);
  body["files"] = to_json(manifest.files);
  body["pieces"] = to_json(manifest.pieces);
  const std::string digest = digest_of(body.dump());
  return Json{{"format", manifest_format}, {"digest", digest}, {"checkpoint", std::move(body)}}.dump(1) +
         "\n";
}

CheckpointManifest read_manifest(const std::filesystem::path& file) {
  return read_json(file, [](const Json& json) {
    const std::int64_t format = natural(json.at("format"));
    if (format < oldest_manifest_format || format > manifest_format)
      throw DataError("format version {} is unknown, this program reads {} to {}", format,
                      oldest_manifest_format, manifest_format);
    const Json& body = json.at("checkpoint");
    require_digest(json.at("digest").get<std::string>(), body);
    CheckpointManifest manifest;
    manifest.info = info_from(body);
    manifest.files = files_from(body.at("files"));
    manifest.pieces = pieces_from(body.at("pieces"), manifest.files);
    if (const std::string message = tiling_error(manifest.pieces); !message.empty())
      throw DataError("{}", message);
    return manifest;
  });
}

std::string branch_text(const BranchRecord& record) {
  Json json{{"format", branch_format}, {"lineage", to_json(record.lineage)}};
  if (record.config) json["unfinished_config"] = *record.config;
  json["digest"] = digest_of(json.dump());
  return json.dump(1) + "\n";
}

BranchRecord read_branch(const std::filesystem::path& file) {
  return read_json(file, [](const Json& json) {
    if (const std::int64_t format = natural(json.at("format")); format != branch_format)
      throw DataError("format version {} is unknown, this program reads {}", format, branch_format);
    Json body = json;
    body.erase("digest");
    require_digest(json.at("digest").get<std::string>(), body);
    BranchRecord record{.lineage = lineage_from(json.at("lineage")), .config = {}};
    if (json.contains("unfinished_config")) record.config = json.at("unfinished_config").get<std::string>();
    return record;
  });
}

void mark_suspect(const std::filesystem::path& checkpoint, const std::string& reason) {
  const std::filesystem::path file = checkpoint / manifest_name;
  CheckpointManifest manifest = read_manifest(file);
  manifest.info.suspect = reason;
  write_durably(file, manifest_text(manifest));
}

std::string vote_text(const ShardVote& vote) {
  return Json{{"save_id", vote.save_id},
              {"error", vote.error},
              {"files", to_json(vote.files)},
              {"pieces", to_json(vote.pieces)}}
      .dump();
}

ShardVote read_vote(const std::filesystem::path& file) {
  return read_json(file, [](const Json& json) {
    ShardVote vote;
    vote.save_id = json.at("save_id").get<std::string>();
    vote.error = json.at("error").get<std::string>();
    vote.files = files_from(json.at("files"));
    vote.pieces = pieces_from(json.at("pieces"), vote.files);
    return vote;
  });
}

std::string tiling_error(std::vector<PieceRecord> pieces) {
  const auto key = [](const PieceRecord& piece) { return std::tie(piece.kind, piece.tensor); };
  std::sort(pieces.begin(), pieces.end(), [](const PieceRecord& a, const PieceRecord& b) {
    return std::tie(a.kind, a.tensor, a.range.begin) < std::tie(b.kind, b.tensor, b.range.begin);
  });
  std::int64_t covered = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const PieceRecord& piece = pieces[i];
    const std::string name = describe(piece.kind, piece.tensor);
    const bool first = i == 0 || key(pieces[i - 1]) != key(piece);
    const bool last = i + 1 == pieces.size() || key(pieces[i + 1]) != key(piece);
    if (first) covered = 0;
    if (!first && (piece.shape != pieces[i - 1].shape || piece.dtype != pieces[i - 1].dtype))
      return fmt::format("{}: is {} {} in {}, but {} {} in {}", name, name_of(pieces[i - 1].dtype),
                         to_string(pieces[i - 1].shape), pieces[i - 1].file, name_of(piece.dtype),
                         to_string(piece.shape), piece.file);
    if (piece.range.begin > covered)
      return fmt::format("{}: elements [{}, {}) are in no piece", name, covered, piece.range.begin);
    if (piece.range.begin < covered)
      return fmt::format("{}: elements [{}, {}) are in two pieces ({} and {})", name, piece.range.begin,
                         std::min(covered, piece.range.end), pieces[i - 1].file, piece.file);
    covered = piece.range.end;
    if (last && covered != piece.shape.elements())
      return fmt::format("{}: elements [{}, {}) are in no piece", name, covered, piece.shape.elements());
  }
  return {};
}

std::string bytes_text(std::int64_t bytes) {
  double value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"kB", "MB", "GB", "TB"}) {
    if (value < 1000) break;
    value /= 1000;
    unit = larger;
  }
  return bytes < 1000 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, unit);
}

std::string describe(const std::string& kind, const std::string& tensor) {
  return kind == "model" ? tensor : fmt::format("{} of {}", kind, tensor);
}

}  // namespace foretoken
