#include "io/token_dataset.h"

#include <csignal>
#include <fstream>
#include <functional>
#include <numeric>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/source_tree.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_files.h"

namespace foretoken {
namespace {

const TokenizerIdentity narrow{"counting", "d1", 257, 256};
const TokenizerIdentity wide{"counting", "d2", 70'000, 69'999};

/// Writes a dataset by hand, each part of which a test may spoil.
struct Parts {
  std::string format = token_dataset_format;
  std::int64_t version = token_dataset_version;
  std::int64_t vocab_size = 257;
  std::int64_t end_of_document = 256;
  std::vector<std::uint16_t> tokens{1, 2, 256, 3, 256};
  std::vector<std::int64_t> offsets{0, 3, 5};

  std::filesystem::path write(const TemporaryFolder& folder) {
    const std::filesystem::path path = folder / "parts.h5";
    Hdf5File file = Hdf5File::create(path);
    file.write_attribute("format", format);
    file.write_attribute("format_version", version);
    file.write_attribute("tokenizer_name", std::string("bytes"));
    file.write_attribute("tokenizer_digest", std::string("d"));
    file.write_attribute("vocab_size", vocab_size);
    file.write_attribute("end_of_document", end_of_document);
    const Shape token_shape{static_cast<std::int64_t>(tokens.size())};
    const Shape offset_shape{static_cast<std::int64_t>(offsets.size())};
    file.create_dataset("/tokens", DType::u16, token_shape)
        .write(tensor_over(std::span(tokens), token_shape));
    file.create_dataset("/document_offsets", DType::i64, offset_shape)
        .write(tensor_over(std::span(offsets), offset_shape));
    file.close();
    return path;
  }
};

TEST_CASE("a token dataset comes back as it was written, with narrow and wide tokens") {
  for (const TokenizerIdentity& identity : {narrow, wide}) {
    const TemporaryFolder folder;
    const std::int64_t count = 1'300'000;  // several chunks
    std::vector<std::int32_t> ids(count);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(identity.vocab_size - 1));
    {
      TokenDatasetWriter writer(folder / "sub/data.h5", identity);
      writer.append(std::span(ids).first(3));
      writer.end_document();
      writer.append(std::span(ids).subspan(3, 700'000));
      writer.append(std::span(ids).subspan(700'003));
      writer.end_document();
      writer.end_document();
      writer.finish();
      REQUIRE_FALSE(std::filesystem::exists(folder / "sub/data.h5"));
      writer.publish();
    }
    REQUIRE(files_in(folder / "sub") == 1);
    const TokenDataset dataset(folder / "sub/data.h5");
    REQUIRE(dataset.tokenizer() == identity);
    REQUIRE(dataset.tokens() == count + 3);
    REQUIRE(std::vector(dataset.document_offsets().begin(), dataset.document_offsets().end()) ==
            std::vector<std::int64_t>{0, 4, count + 2, count + 3});
    std::vector<std::int32_t> expected(ids);
    expected.insert(expected.begin() + 3, identity.end_of_document);
    expected.insert(expected.end(), 2, identity.end_of_document);
    std::vector<std::int32_t> back(expected.size(), -1);
    dataset.read(0, back);
    REQUIRE(back == expected);
    std::vector<std::int32_t> part(1000);
    dataset.read((1 << 19) - 500, part);
    REQUIRE(std::equal(part.begin(), part.end(), expected.begin() + (1 << 19) - 500));
    REQUIRE_THROWS_AS(dataset.read(count + 2, part), DefectError);
  }
}

TEST_CASE("the document of a position is found at its first and last token") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{5, 1, 1, 9}, 100);
  const TokenDataset dataset(folder / "a.h5");
  REQUIRE(dataset.documents() == 4);
  const std::vector<std::pair<std::int64_t, std::int64_t>> starts{{0, 0}, {4, 0}, {5, 5},
                                                                  {6, 6}, {7, 7}, {15, 7}};
  for (const auto& [position, start] : starts) REQUIRE(dataset.document_start(position) == start);
  REQUIRE(dataset.document_of(15) == 3);
  REQUIRE_THROWS_AS(dataset.document_start(16), DefectError);
  REQUIRE_THROWS_AS(dataset.document_start(-1), DefectError);
}

TEST_CASE("a token dataset made by h5py is read") {
  const TokenDataset dataset(testing::in_source_tree("tests/golden/token_dataset.h5"));
  const auto bytes = make_tokenizer("bytes");
  dataset.require_tokenizer(bytes->identity());
  REQUIRE(dataset.documents() == 3);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()));
  dataset.read(0, ids);
  REQUIRE(bytes->decode(ids) ==
          "To foretoken:\n<|endofdocument|>na\xc3\xafve\x01<|endofdocument|>z<|endofdocument|>");
  REQUIRE(dataset.document_start(15) == 15);
  REQUIRE(dataset.document_start(23) == 23);
}

TEST_CASE("a dataset that breaks its format is a data error that says where") {
  const TemporaryFolder folder;
  REQUIRE_NOTHROW(TokenDataset(Parts{}.write(folder)));
  const auto spoiled = [&](const std::function<void(Parts&)>& spoil) {
    Parts parts;
    spoil(parts);
    TokenDataset dataset(parts.write(folder));
  };
  const std::vector<std::pair<std::string, std::function<void(Parts&)>>> cases{
      {"not a token dataset", [](Parts& p) { p.format = "foretoken checkpoint"; }},
      {"format_version is 2, this program reads 1", [](Parts& p) { p.version = 2; }},
      {"vocab_size is 0", [](Parts& p) { p.vocab_size = 0; }},
      {"vocab_size is 4294967296", [](Parts& p) { p.vocab_size = std::int64_t{1} << 32; }},
      {"end_of_document is 257, outside", [](Parts& p) { p.end_of_document = 257; }},
      {"entry 2 is 3, not above 3",
       [](Parts& p) {
         p.offsets = {0, 3, 3, 5};
       }},
      {"entry 2 is -9",
       [](Parts& p) {
         p.offsets = {0, 3, -9, 5};
       }},
      {"goes from 1 to 5",
       [](Parts& p) {
         p.offsets = {1, 3, 5};
       }},
      {"goes from 0 to 6, expected 0 to 5",
       [](Parts& p) {
         p.offsets = {0, 3, 6};
       }},
      {"at least two of i64", [](Parts& p) { p.offsets = {0}; }},
      {"at least two of i64", [](Parts& p) { p.offsets = {}; }},
      {"goes from 0 to 5, expected 0 to 0", [](Parts& p) { p.tokens = {}; }},
  };
  for (const auto& [message, spoil] : cases) expect_error<DataError>(message, [&] { spoiled(spoil); });
}

TEST_CASE("datasets that lack a part, or hold another type, are data errors") {
  const TemporaryFolder folder;
  {
    Hdf5File file = Hdf5File::create(folder / "bare.h5");
    file.close();
  }
  expect_error<DataError>("not a token dataset", [&] { TokenDataset(folder / "bare.h5"); });
  {
    Hdf5File file = Hdf5File::create(folder / "half.h5");
    file.write_attribute("format", std::string(token_dataset_format));
    file.write_attribute("format_version", token_dataset_version);
    file.close();
  }
  expect_error<DataError>("tokenizer_name is missing", [&] { TokenDataset(folder / "half.h5"); });
  expect_error<DataError>("no such file", [&] { TokenDataset(folder / "none.h5"); });
  expect_error<DataError>("text.h5", [&] { TokenDataset(folder.write("text.h5", std::string(5000, 'x'))); });
}

TEST_CASE("a token outside of the vocabulary is found on reading, and named") {
  const TemporaryFolder folder;
  Parts parts;
  parts.tokens[3] = 300;
  const TokenDataset dataset(parts.write(folder));
  std::vector<std::int32_t> fine(3);
  REQUIRE_NOTHROW(dataset.read(0, fine));
  std::vector<std::int32_t> all(5);
  expect_error<DataError>("token 3 is 300, outside of the vocabulary of 257", [&] { dataset.read(0, all); });
}

TEST_CASE("a dataset of another tokenizer is refused, showing both") {
  const TokenDataset dataset(testing::in_source_tree("tests/golden/token_dataset.h5"));
  expect_error<DataError>("bytes (digest 7616142adcc6254c5795ed877f813edd, vocabulary 257", [&] {
    dataset.require_tokenizer({"bpe", "ff", 50'000, 0});
  });
}

TEST_CASE("a token dataset cut short at any length is a data error") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{100'000}, 257);
  const std::uintmax_t size = std::filesystem::file_size(folder / "a.h5");
  for (const std::uintmax_t cut :
       {size - 1, size / 2, std::uintmax_t{2048}, std::uintmax_t{8}, std::uintmax_t{0}}) {
    std::filesystem::copy_file(folder / "a.h5", folder / "cut.h5",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(folder / "cut.h5", cut);
    REQUIRE_THROWS_AS(TokenDataset(folder / "cut.h5"), DataError);
  }
}

TEST_CASE("a damaged byte of a token dataset's structure is a data error or changes nothing, never a crash") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "a.h5";
  write_counting_dataset(path, std::vector<std::int64_t>{100, 50}, 257);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  int refused = 0;
  for (std::streamoff at = 0; at < 2000; at += 5) {
    file.seekg(at);
    const char was = static_cast<char>(file.get());
    file.seekp(at).put(static_cast<char>(was ^ 0xff)).flush();
    try {
      const TokenDataset dataset(path);
      REQUIRE(dataset.tokens() == 150);
      std::vector<std::int32_t> ids(150);
      dataset.read(0, ids);
    } catch (const DataError&) {
      ++refused;
    }
    file.seekp(at).put(was).flush();
  }
  REQUIRE(refused > 100);
  REQUIRE(TokenDataset(path).documents() == 2);
}

TEST_CASE("a writer that is given up leaves nothing, and what was there before stays") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{7}, 257);
  {
    TokenDatasetWriter writer(folder / "a.h5", narrow);
    writer.append(std::vector<std::int32_t>(100, 1));
    REQUIRE_THROWS_AS(writer.finish(), DefectError);  // the document has not ended
  }
  REQUIRE(TokenDataset(folder / "a.h5").tokens() == 7);
  {
    TokenDatasetWriter writer(folder / "none.h5", narrow);
    expect_error<DataError>("no document", [&] { writer.finish(); });
  }
  REQUIRE(files_in(folder.path()) == 1);
}

TEST_CASE("a writer killed midway leaves the old dataset, and the next writer works over the debris") {
  const TemporaryFolder folder;
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{7}, 257);
  const pid_t child = fork();
  if (child == 0) {
    TokenDatasetWriter writer(folder / "a.h5", narrow);
    writer.append(std::vector<std::int32_t>(600'000, 1));
    std::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(files_in(folder.path()) == 2);
  REQUIRE(TokenDataset(folder / "a.h5").tokens() == 7);
  write_counting_dataset(folder / "a.h5", std::vector<std::int64_t>{9}, 257);
  REQUIRE(TokenDataset(folder / "a.h5").tokens() == 9);
  REQUIRE(files_in(folder.path()) == 1);
}

TEST_CASE("a writer refuses tokens outside of the vocabulary and places that cannot be written") {
  const TemporaryFolder folder;
  TokenDatasetWriter writer(folder / "a.h5", narrow);
  REQUIRE_THROWS_AS(writer.append(std::vector<std::int32_t>{257}), DefectError);
  REQUIRE_THROWS_AS(writer.append(std::vector<std::int32_t>{-1}), DefectError);
  expect_error<DataError>("is a folder", [&] { TokenDatasetWriter(folder.path(), narrow); });
  folder.write("file", "x");
  expect_error<DataError>("its folder cannot be made",
                          [&] { TokenDatasetWriter(folder / "file/a.h5", narrow); });
}

}  // namespace
}  // namespace foretoken
