#include <fstream>
#include <limits>

#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_directory.h"
#include "io/checkpoint/checkpoint_manifest.h"
#include "io/files/digest.h"
#include "io/files/durable_file.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

namespace {

PieceRecord piece(const std::string& tensor, Range range, const Shape& shape = {4, 6}) {
  return {"model",
          tensor,
          shape,
          DType::f32,
          range,
          "shard_00000.h5",
          "/model/" + tensor,
          2048 + range.begin * 4,
          std::string(32, 'a')};
}

CheckpointManifest example() {
  CheckpointManifest manifest;
  manifest.info.step = 400;
  manifest.info.tokens = 1234567890123;
  manifest.info.samples = 17;
  manifest.info.grid = {2, 3, 4};
  manifest.info.seed = 0xffffffffffffffffu;
  manifest.info.balance = {0.1, 1.0 / 3};
  manifest.info.conventions = {{"concat", "hidden_first"}, {"trunk_hidden", "raw"}};
  manifest.info.config = "[run]\nname = \"Übung \\\"1\\\"\"\n";
  manifest.info.tokenizer = {.name = "words (2)", .digest = "0123", .vocab_size = 9, .end_of_document = 8};
  manifest.info.training_data = DatasetRecord{"/data/ü.h5", std::string(32, 'c')};
  manifest.info.created = "2025-01-31T12:00:00Z";
  manifest.files = {{"shard_00000.h5", 4096, std::string(32, 'b')}};
  manifest.pieces = {piece("a.weight", {0, 10}), piece("a.weight", {10, 24}), piece("b.weight", {0, 24})};
  return manifest;
}

void expect_refused(const std::string& text, const std::string& fragment) {
  const TemporaryFolder directory;
  const auto file = directory.path() / "manifest.json";
  std::ofstream(file) << text;
  expect_error<DataError>(fragment, [&] { read_manifest(file); });
  expect_error<DataError>(file.string(), [&] { read_manifest(file); });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

/// The example with one value changed and a matching digest, so that only that value is wrong.
std::string forged(const std::string& place, const nlohmann::json& value) {
  nlohmann::json json = nlohmann::json::parse(manifest_text(example()));
  json["checkpoint"][nlohmann::json::json_pointer(place)] = value;
  json["digest"] = digest_of(json["checkpoint"].dump());
  return json.dump(1);
}

}  // namespace

TEST_CASE("a digest is XXH3-128 in canonical byte order, computed in one call or in parts") {
  CHECK(digest_of("") == "99aa06d3014798d86001c324468d497f");
  DigestStream stream;
  stream.add(std::as_bytes(std::span(std::string_view("fore"))));
  stream.add(std::as_bytes(std::span(std::string_view("token"))));
  CHECK(stream.digest() == digest_of("foretoken"));
  CHECK(digest_of("foretoken") != digest_of("foretokeN"));
}

TEST_CASE("a manifest reads back as it was written") {
  const TemporaryFolder directory;
  const auto file = directory.path() / "manifest.json";
  const CheckpointManifest written = example();
  write_durably(file, manifest_text(written));
  const CheckpointManifest read = read_manifest(file);
  CHECK(read.info.step == written.info.step);
  CHECK(read.info.tokens == written.info.tokens);
  CHECK(read.info.samples == written.info.samples);
  CHECK(read.info.grid == written.info.grid);
  CHECK(read.info.seed == written.info.seed);
  CHECK(read.info.balance == written.info.balance);
  CHECK(read.info.conventions == written.info.conventions);
  CHECK(read.info.config == written.info.config);
  CHECK(read.info.tokenizer == written.info.tokenizer);
  CHECK(read.info.created == written.info.created);
  REQUIRE(read.pieces.size() == 3);
  CHECK(read.pieces[1].range == Range{10, 24});
  CHECK(read.pieces[1].shape == Shape{4, 6});
  CHECK(read.pieces[1].address == written.pieces[1].address);
  CHECK(manifest_text(read) == manifest_text(written));
}

TEST_CASE("a manifest that is nested 100,000 deep is refused") {
  for (const std::string bracket : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += bracket;
    expect_refused(replaced(manifest_text(example()), "\"conventions\": {", "\"conventions\": " + deep),
                   "nested deeper than 64 levels");
  }
  expect_refused(forged("/step", std::string(100, '[')), "expected a whole number");
}

TEST_CASE("an error message about a manifest quotes only the beginning of a wrong value") {
  expect_refused(forged("/step", std::string(1 << 20, 'x')), "found \"" + std::string(59, 'x') + "...");
  expect_refused(forged("/step", std::vector<int>(1 << 16)), "found an array of 65536");
}

TEST_CASE("every flipped byte of a manifest that could change its meaning is found") {
  const TemporaryFolder directory;
  const auto file = directory.path() / "manifest.json";
  const std::string text = manifest_text(example());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    std::filesystem::remove(file);
    std::ofstream(file, std::ios::binary) << damaged;
    std::string read = text;
    try {
      read = manifest_text(read_manifest(file));
    } catch (const DataError&) {  // detected
    }
    INFO("byte " << i << " of " << text.size());
    CHECK(read == text);
  }
}

TEST_CASE("a manifest truncated at any byte is refused") {
  const std::string text = manifest_text(example());
  const TemporaryFolder directory;
  const auto file = directory.path() / "manifest.json";
  for (std::size_t length = 0; length + 2 < text.size(); length += 7) {
    std::filesystem::remove(file);
    std::ofstream(file) << text.substr(0, length);
    CHECK_THROWS_AS(read_manifest(file), DataError);
  }
}

TEST_CASE("a manifest of another format version is refused by its number") {
  const auto of_format = [](const char* format) {
    return replaced(manifest_text(example()), "\"format\": 2", fmt::format("\"format\": {}", format));
  };
  expect_refused(of_format("3"), "format version 3 is unknown, this program reads 1 to 2");
  expect_refused(of_format("0"), "format version 0");
  expect_refused(of_format("-1"), "whole number");
}

TEST_CASE("a manifest of format 1, whose tokenizer is text, reads as one of format 2") {
  const TemporaryFolder directory;
  const auto file = directory.path() / "manifest.json";
  const auto of_format_1 = [](const std::string& tokenizer) {
    return replaced(forged("/tokenizer", tokenizer), "\"format\": 2", "\"format\": 1");
  };
  std::ofstream(file) << of_format_1("words (2) (digest 0123, vocabulary 9, end of document 8)");
  CHECK(read_manifest(file).info.tokenizer == example().info.tokenizer);
  expect_refused(of_format_1("words"), "\"words\" is not the identity of a tokenizer");
  expect_refused(of_format_1(std::string(100'000, '(')), "is not the identity of a tokenizer");
  expect_refused(forged("/tokenizer/end_of_document", std::int64_t{1} << 31), "out of range");
}

TEST_CASE("a manifest with wrong sizes, offsets or names is refused although its digest matches") {
  const std::int64_t largest = std::numeric_limits<std::int64_t>::max();
  expect_refused(forged("/files/0/bytes", 16), "out of range for file");
  expect_refused(forged("/files/0/name", "../shard_00000.h5"), "not a valid shard name");
  expect_refused(forged("/pieces/0/address", largest), "out of range for file");
  expect_refused(forged("/pieces/0/address", -1), "whole number");
  expect_refused(forged("/pieces/0/count", largest), "out of range for a tensor of 24");
  expect_refused(forged("/pieces/0/offset", largest), "out of range for a tensor of 24");
  expect_refused(forged("/pieces/0/count", 0), "out of range for a tensor of 24");
  expect_refused(forged("/pieces/0/count", 9), "in no piece");
  expect_refused(forged("/pieces/0/count", 11), "in two pieces");
  expect_refused(forged("/pieces/0/count", 10.5), "whole number");
  expect_refused(forged("/pieces/0/count", 0xffffffffffffffffu), "whole number");
  expect_refused(forged("/pieces/0/dtype", "f33"), "dtype f33");
  expect_refused(forged("/pieces/0/dtype", "f64"), "is f64");
  expect_refused(forged("/pieces/0/file", "shard_00001.h5"), "the manifest does not list");
  expect_refused(forged("/pieces/0/shape", {4000000000, 6000000000}), "is out of range");
  expect_refused(forged("/pieces/0/shape", {0, 6}), "is out of range");
  expect_refused(forged("/pieces/0/shape", nlohmann::json::array()), "expected a shape");
  expect_refused(forged("/pieces/0/shape", {1, 1, 1, 4, 6}), "expected a shape");
  expect_refused(forged("/step", "400"), "whole number");
  expect_refused(forged("/grid/pp", 0), "number of ranks");
  expect_refused(forged("/grid/dp", 2147483647), "layout pp 2 × dp 2147483647 × v 4 is out of range");
  expect_refused(forged("/conventions", 3), "damaged");
  expect_refused(forged("/tokenizer", nullptr), "damaged");
}

TEST_CASE("text that is not a manifest is refused") {
  expect_refused("", "damaged");
  expect_refused("null", "damaged");
  expect_refused("[1, 2]", "damaged");
  expect_refused(std::string(100000, '['), "damaged");
  expect_refused(std::string("\0\xff\x80 garbage", 12), "damaged");
}

TEST_CASE("the tiling check names the tensor and the elements that are missing or duplicated") {
  CHECK(tiling_error({}) == "");
  CHECK(tiling_error({piece("a", {10, 24}), piece("a", {0, 10})}) == "");
  CHECK(tiling_error({piece("a", {0, 10}), piece("a", {11, 24})}) == "a: elements [10, 11) are in no piece");
  CHECK(tiling_error({piece("a", {2, 24})}) == "a: elements [0, 2) are in no piece");
  CHECK(tiling_error({piece("a", {0, 23}), piece("b", {0, 24})}) == "a: elements [23, 24) are in no piece");
  CHECK(tiling_error({piece("a", {0, 12}), piece("a", {10, 24})}) ==
        "a: elements [10, 12) are in two pieces (shard_00000.h5 and shard_00000.h5)");
  CHECK(tiling_error({piece("a", {0, 24}), piece("a", {3, 5})}) ==
        "a: elements [3, 5) are in two pieces (shard_00000.h5 and shard_00000.h5)");
  CHECK(tiling_error({piece("a", {0, 12}), piece("a", {12, 24}, {6, 4})}) ==
        "a: is f32 [4, 6] in shard_00000.h5, but f32 [6, 4] in shard_00000.h5");
}
