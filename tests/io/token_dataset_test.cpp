#include "io/datasets/token_dataset.h"

#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <sys/wait.h>
#include <unistd.h>

#include <hdf5.h>

#include "io/datasets/token_dataset_index.h"
#include "io/datasets/token_dataset_writer.h"
#include "io/hdf5/hdf5.h"
#include "io/tokenizers/tokenizer.h"
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

/// The parts of a dataset of version 1, written without TokenDatasetWriter; a test may corrupt each part.
struct Parts {
  std::string format = token_dataset_format;
  std::int64_t version = 1;
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

TEST_CASE("a token dataset reads back as it was written, with 16-bit and 32-bit tokens") {
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

TEST_CASE("token datasets made by h5py are read: contiguous, in chunks, and with digests") {
  const auto bytes = make_tokenizer("bytes");
  std::map<std::string, std::string> identities;
  for (const char* name : {"token_dataset.h5", "token_dataset_chunked.h5", "token_dataset_v2.h5"}) {
    CAPTURE(name);
    const TokenDataset dataset(testing::in_source_tree(std::string("tests/golden/") + name));
    dataset.require_tokenizer(bytes->identity());
    REQUIRE(dataset.documents() == 3);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()));
    dataset.read(0, ids);
    REQUIRE(bytes->decode(ids) ==
            "To foretoken:\n<|endofdocument|>na\xc3\xafve\x01<|endofdocument|>z<|endofdocument|>");
    REQUIRE(dataset.document_start(15) == 15);
    REQUIRE(dataset.document_start(23) == 23);
    REQUIRE(dataset.verify() == std::vector<std::string>{});
    identities[name] = dataset.identity();
  }
  REQUIRE(TokenDataset(testing::in_source_tree("tests/golden/token_dataset_v2.h5")).has_digests());
  REQUIRE_FALSE(TokenDataset(testing::in_source_tree("tests/golden/token_dataset.h5")).has_digests());
  REQUIRE(identities["token_dataset.h5"] == identities["token_dataset_chunked.h5"]);

  // TokenDatasetWriter gives the same content the same identity, although it stores the arrays at other
  // offsets.
  const TemporaryFolder folder;
  TokenDatasetWriter writer(folder / "a.h5", bytes->identity());
  for (const char* text : {"To foretoken:\n", "na\xc3\xafve\x01", "z"}) {
    std::vector<std::int32_t> ids;
    bytes->make_encoder()->encode(text, ids);
    writer.append(ids);
    writer.end_document();
  }
  writer.finish();
  writer.publish();
  REQUIRE(writer.identity() == identities["token_dataset_v2.h5"]);
  REQUIRE(TokenDataset(folder / "a.h5").identity() == writer.identity());
}

TEST_CASE("a dataset that violates its format is a data error that names the place") {
  const TemporaryFolder folder;
  REQUIRE_NOTHROW(TokenDataset(Parts{}.write(folder)));
  const auto spoiled = [&](const std::function<void(Parts&)>& spoil) {
    Parts parts;
    spoil(parts);
    TokenDataset dataset(parts.write(folder));
  };
  const std::vector<std::pair<std::string, std::function<void(Parts&)>>> cases{
      {"not a token dataset", [](Parts& p) { p.format = "foretoken checkpoint"; }},
      {"format_version is 3, this program reads 1 and 2", [](Parts& p) { p.version = 3; }},
      {"the index at its end is missing", [](Parts& p) { p.version = 2; }},
      {"vocab_size is 0", [](Parts& p) { p.vocab_size = 0; }},
      {"vocab_size is 4294967296", [](Parts& p) { p.vocab_size = std::int64_t{1} << 32; }},
      {"end_of_document is 257, outside", [](Parts& p) { p.end_of_document = 257; }},
      {"entry 2 is 3, expected more than 3",
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

TEST_CASE("datasets with a missing part or a wrong type are data errors") {
  const TemporaryFolder folder;
  {
    Hdf5File file = Hdf5File::create(folder / "bare.h5");
    file.close();
  }
  expect_error<DataError>("not a token dataset", [&] { TokenDataset(folder / "bare.h5"); });
  {
    Hdf5File file = Hdf5File::create(folder / "half.h5");
    file.write_attribute("format", std::string(token_dataset_format));
    file.write_attribute("format_version", std::int64_t{1});
    file.close();
  }
  expect_error<DataError>("tokenizer_name is missing", [&] { TokenDataset(folder / "half.h5"); });
  expect_error<DataError>("no such file", [&] { TokenDataset(folder / "none.h5"); });
  expect_error<DataError>("text.h5", [&] { TokenDataset(folder.write("text.h5", std::string(5000, 'x'))); });
}

TEST_CASE("reading a token outside the vocabulary is an error that names the token") {
  const TemporaryFolder folder;
  Parts parts;
  parts.tokens[3] = 300;
  const TokenDataset dataset(parts.write(folder));
  std::vector<std::int32_t> fine(3);
  REQUIRE_NOTHROW(dataset.read(0, fine));
  std::vector<std::int32_t> all(5);
  expect_error<DataError>("token 3 is 300, outside the vocabulary of 257", [&] { dataset.read(0, all); });
}

TEST_CASE("a dataset of another tokenizer is refused with both tokenizers' identities") {
  const TokenDataset dataset(testing::in_source_tree("tests/golden/token_dataset.h5"));
  expect_error<DataError>("bytes (digest 7616142adcc6254c5795ed877f813edd, vocabulary 257", [&] {
    dataset.require_tokenizer({"bpe", "ff", 50'000, 0});
  });
}

TEST_CASE("a token dataset truncated at any length is a data error") {
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

/// The message of the DataError from opening the file, or the first message of verify(); empty: undamaged.
std::string damage_in(const std::filesystem::path& path) {
  try {
    const std::vector<std::string> failures = TokenDataset(path).verify();
    return failures.empty() ? "" : failures.front();
  } catch (const DataError& error) {
    return error.what();
  }
}

void flip(std::fstream& file, std::streamoff at, int bits) {
  file.seekg(at);
  const int was = file.get();
  file.seekp(at).put(static_cast<char>(was ^ bits)).flush();
}

TEST_CASE("verify finds every flipped bit of a token dataset") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "a.h5";
  write_counting_dataset(path, std::vector<std::int64_t>{100, 50}, 257);
  REQUIRE(damage_in(path).empty());
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(path));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  for (std::streamoff at = 0; at < size; ++at) {
    const int bit = 1 << (at % 8);
    flip(file, at, bit);
    CAPTURE(at, bit);
    REQUIRE_FALSE(damage_in(path).empty());
    flip(file, at, bit);
  }
  REQUIRE(damage_in(path).empty());
}

TEST_CASE("a damaged byte of a dataset of version 1 is a data error or changes nothing, never a crash") {
  const TemporaryFolder folder;
  const std::filesystem::path path = Parts{}.write(folder);
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(path));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  int refused = 0, tried = 0;
  for (std::streamoff at = 0; at < size; at += 17) {  // every 17th byte: each attempt starts a process
    flip(file, at, 0xff);
    refused += !damage_in(path).empty();
    ++tried;
    flip(file, at, 0xff);
  }
  REQUIRE(refused > tried / 30);
  REQUIRE(damage_in(path).empty());
}

TEST_CASE("tokens overwritten or truncated after a dataset was opened are found before they are used") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "a.h5";
  std::vector<std::int32_t> row(100);
  const auto written = [&] {
    write_counting_dataset(path, std::vector<std::int64_t>{1'000'000}, 257);
    return TokenDataset(path);
  };
  const std::streamoff tokens_at = 1 << 20;  // 2 MB of tokens are aligned to 1 MiB
  {
    const TokenDataset dataset = written();
    dataset.read(0, row);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    flip(file, tokens_at + 2 * 40'000, 1);  // another token of the vocabulary
    dataset.read(0, row);                   // the previous chunk is intact
    REQUIRE(row[7] == 7);
    expect_error<DataError>("/tokens: chunk 1 (tokens 32768 to 65535): digest differs",
                            [&] { dataset.read(50'000, row); });
    expect_error<DataError>("chunk 1", [&] { dataset.read(32'767, row); });  // starts in chunk 0
    dataset.read(65'536, row);
    const std::vector<std::string> failures = dataset.verify();
    REQUIRE(failures.size() == 1);
    REQUIRE(failures[0].find("chunk 1 (tokens 32768 to 65535)") != std::string::npos);
  }
  {
    const TokenDataset dataset = written();
    std::filesystem::resize_file(path, tokens_at + 100'000);
    dataset.read(0, row);
    expect_error<DataError>("/tokens: chunk 1 (tokens 32768 to 65535): truncated",
                            [&] { dataset.read(40'000, row); });
    expect_error<DataError>("a.h5", [&] { TokenDataset again(path); });
  }
  {
    std::filesystem::remove(path);
    Parts parts;
    const TokenDataset dataset(
        parts.write(folder));  // in version 1 only the file's size and time can show a change
    std::vector<std::int32_t> few(2);
    dataset.read(0, few);
    const auto size = std::filesystem::file_size(folder / "parts.h5");
    std::filesystem::resize_file(folder / "parts.h5", size - 10);
    expect_error<DataError>("tokens 0 to 1: the file has changed since it was opened",
                            [&] { dataset.read(0, few); });
  }
}

TEST_CASE("two datasets have the same identity only if all content is the same") {
  const TemporaryFolder folder;
  const auto identity = [&](std::vector<std::int64_t> lengths, std::int64_t vocab_size) {
    write_counting_dataset(folder / "a.h5", lengths, vocab_size);
    return TokenDataset(folder / "a.h5").identity();
  };
  const std::string first = identity({100, 50}, 257);
  REQUIRE(first.size() == 32);
  REQUIRE(identity({100, 50}, 257) == first);
  REQUIRE(identity({50, 100}, 257) != first);
  REQUIRE(identity({100, 50}, 258) != first);
  REQUIRE(identity({100, 51}, 257) != first);
}

/// A dataset of version 1 with the offsets that `make_offsets` writes.
std::filesystem::path with_offsets(const TemporaryFolder& folder,
                                   const std::function<void(hid_t)>& make_offsets) {
  const std::filesystem::path path = Parts{}.write(folder);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  REQUIRE(H5Ldelete(file, "/document_offsets", H5P_DEFAULT) >= 0);
  make_offsets(file);
  REQUIRE(H5Fclose(file) >= 0);
  return path;
}

TEST_CASE("a small file that declares too many offsets is refused before memory is allocated") {
  const TemporaryFolder folder;
  const hsize_t claimed = hsize_t{1} << 31;
  const auto path = with_offsets(folder, [&](hid_t file) {
    const hid_t space = H5Screate_simple(1, &claimed, nullptr), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(list, space, "other.h5", "/x", space);
    H5Dclose(H5Dcreate2(file, "/document_offsets", H5T_STD_I64LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Pclose(list), H5Sclose(space);
  });
  expect_error<DataError>("/document_offsets: its data is in other files",
                          [&] { TokenDataset dataset(path); });
  const auto chunked = with_offsets(folder, [&](hid_t file) {
    const hsize_t chunk = 1024;
    const hid_t space = H5Screate_simple(1, &claimed, nullptr), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 1, &chunk);
    H5Dclose(H5Dcreate2(file, "/document_offsets", H5T_STD_I64LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Pclose(list), H5Sclose(space);
  });
  expect_error<DataError>("more than the file stores", [&] { TokenDataset dataset(chunked); });
}

TEST_CASE("an index whose arrays do not fit the file is a data error, even with the right digests") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "a.h5";
  write_counting_dataset(path, std::vector<std::int64_t>{100, 50}, 257);
  const LocatedIndex located = *read_index(FileReader(path));
  const std::int64_t huge = std::int64_t{1} << 60;
  const std::vector<std::pair<std::string, std::function<void(TokenDatasetIndex&)>>> cases{
      {"tokens: 1152921504606846976 elements of u16", [&](auto& i) { i.tokens.count = huge; }},
      {"document_offsets: 3 elements of i64 at byte 1152921504606846976",
       [&](auto& i) { i.document_offsets.address = huge; }},
      {"token_digests have 32 bytes, expected 16", [&](auto& i) { i.token_digests.count = 32; }},
      {"tokens have the unexpected dtype f64", [&](auto& i) { i.tokens.dtype = DType::f64; }},
      {"identity differs", [&](auto& i) { i.identity = std::string(32, '0'); }},
      {"identity differs", [&](auto& i) { i.tokenizer.vocab_size = 5; }},
  };
  for (const auto& [message, spoil] : cases) {
    std::filesystem::copy_file(path, folder / "b.h5", std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(folder / "b.h5", static_cast<std::uintmax_t>(located.begin));
    TokenDatasetIndex index = located.index;
    spoil(index);
    std::ofstream(folder / "b.h5", std::ios::app | std::ios::binary) << index_bytes(index);
    expect_error<DataError>(message, [&] { TokenDataset dataset(folder / "b.h5"); });
  }
}

TEST_CASE("a writer destroyed before commit leaves no file, and an existing file stays") {
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

TEST_CASE("a writer killed midway leaves the old dataset, and the next writer replaces the unfinished file") {
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

TEST_CASE("a writer refuses tokens outside the vocabulary and paths that cannot be written") {
  const TemporaryFolder folder;
  TokenDatasetWriter writer(folder / "a.h5", narrow);
  REQUIRE_THROWS_AS(writer.append(std::vector<std::int32_t>{257}), DefectError);
  REQUIRE_THROWS_AS(writer.append(std::vector<std::int32_t>{-1}), DefectError);
  expect_error<DataError>("is a folder", [&] { TokenDatasetWriter(folder.path(), narrow); });
  folder.write("file", "x");
  expect_error<DataError>("its folder cannot be created",
                          [&] { TokenDatasetWriter(folder / "file/a.h5", narrow); });
}

}  // namespace
}  // namespace foretoken
