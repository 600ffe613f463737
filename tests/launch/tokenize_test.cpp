#include "launch/commands/tokenize.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <unistd.h>

#include "io/datasets/token_dataset.h"
#include "io/tokenizers/tokenizer.h"
#include "launch/commands/document_split.h"
#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

/// Redirects stdout and stderr to a file during its lifetime.
class CapturedOutput {
 public:
  explicit CapturedOutput(const std::filesystem::path& path) : path_(path) {
    std::fflush(nullptr);
    std::FILE* file = std::fopen(path.c_str(), "w");
    for (int stream : {1, 2}) {
      saved_[stream - 1] = dup(stream);
      dup2(fileno(file), stream);
    }
    std::fclose(file);
  }
  ~CapturedOutput() {
    std::fflush(nullptr);
    for (int stream : {1, 2}) {
      dup2(saved_[stream - 1], stream);
      ::close(saved_[stream - 1]);
    }
  }
  std::string text() const {
    std::fflush(nullptr);
    std::ifstream in(path_);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::filesystem::path path_;
  int saved_[2];
};

std::string text_of(const std::filesystem::path& dataset_path) {
  const TokenDataset dataset(dataset_path);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()));
  dataset.read(0, ids);
  return make_tokenizer("bytes")->decode(ids);
}

TEST_CASE("tokenize converts a folder into one dataset and prints a summary") {
  const TemporaryFolder folder;
  folder.write("in/b.txt", "second");
  folder.write("in/a.txt", "first");
  folder.write("in/picture", std::string("\x89PNG\0\0", 6));
  folder.write("in/empty", "");
  std::filesystem::create_symlink("nowhere", folder / "in/dangling");
  std::string output;
  {
    const CapturedOutput captured(folder / "output");
    REQUIRE(tokenize({.paths = {folder / "in"}, .output = folder / "out/data.h5"}) == 0);
    output = captured.text();
  }
  REQUIRE(text_of(folder / "out/data.h5") == "first<|endofdocument|>second<|endofdocument|>");
  CAPTURE(output);
  REQUIRE(output.find("data.h5: 2 documents, 13 tokens, ") != std::string::npos);
  REQUIRE(output.find("1 binary, 1 unreadable, 1 empty") != std::string::npos);
  REQUIRE(output.find("unreadable: ") != std::string::npos);
  REQUIRE(output.find("dangling: No such file") != std::string::npos);
  REQUIRE(output.find("100 %") != std::string::npos);
}

TEST_CASE(
    "tokenize holds out whole documents with the fraction of tokens that was asked for, the same ones every "
    "time") {
  const TemporaryFolder folder;
  std::set<std::string> all;
  std::size_t tokens = 0;
  for (int i = 0; i < 300; ++i) {
    // A few documents hold most of the text.
    const std::string text = fmt::format("document {} {}", i, std::string(i % 50 == 0 ? 5000 : i % 7, '.'));
    all.insert(text);
    tokens += text.size() + 1;
    folder.write(fmt::format("in/{:03}", i), text);
  }
  const auto documents_of = [](const std::filesystem::path& path) {
    std::set<std::string> documents;
    std::string text = text_of(path);
    const std::string end = "<|endofdocument|>";
    for (std::size_t at; (at = text.find(end)) != std::string::npos; text.erase(0, at + end.size()))
      documents.insert(text.substr(0, at));
    return documents;
  };
  std::vector<std::set<std::string>> chosen;
  for (const char* name : {"a", "b"}) {
    const std::filesystem::path validation = folder / fmt::format("{}_validation.h5", name);
    std::string output;
    {
      const CapturedOutput captured(folder / "output");
      tokenize({.paths = {folder / "in"},
                .output = folder / fmt::format("{}.h5", name),
                .validation_output = validation,
                .validation_fraction = 0.05});
      output = captured.text();
    }
    chosen.push_back(documents_of(validation));
    std::set<std::string> together = documents_of(folder / fmt::format("{}.h5", name));
    REQUIRE(together.size() + chosen.back().size() == 300);
    together.insert(chosen.back().begin(), chosen.back().end());
    REQUIRE(together == all);
    const double reached =
        static_cast<double>(TokenDataset(validation).tokens()) / static_cast<double>(tokens);
    CAPTURE(output, reached);
    REQUIRE(std::abs(reached - 0.05) < 0.0005);  // half of a short document
    REQUIRE(output.find(fmt::format("{:.4g} of all tokens are held out, 0.05 requested", reached)) !=
            std::string::npos);
    REQUIRE(output.find("100 %") != std::string::npos);
  }
  REQUIRE(chosen[0] == chosen[1]);
}

TEST_CASE("no other document brings the held-out tokens closer to their fraction") {
  const CounterRng random(3, "document lengths");
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::int64_t> tokens(1 + static_cast<std::size_t>(trial));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = 1 + static_cast<std::int64_t>(
                          std::pow(1000, random.uniform(static_cast<std::uint64_t>(trial) * 1000 + i)));
    const double fraction = 0.01 * (1 + trial % 99);
    const std::vector<bool> held_out = held_out_documents(tokens, fraction);
    REQUIRE(held_out == held_out_documents(tokens, fraction));
    double all = 0, sum = 0, longest = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      all += static_cast<double>(tokens[i]);
      if (!held_out[i]) continue;
      sum += static_cast<double>(tokens[i]);
      longest = std::max(longest, static_cast<double>(tokens[i]));
    }
    const double miss = std::abs(sum - fraction * all);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (!held_out[i])
        REQUIRE(std::abs(sum + static_cast<double>(tokens[i]) - fraction * all) >= miss - 1e-6);
    REQUIRE(sum - fraction * all <= longest / 2 + 1e-6);
  }
}

TEST_CASE("an appended document changes little of the choice of documents") {
  std::vector<std::int64_t> tokens(500, 100);
  const std::vector<bool> before = held_out_documents(tokens, 0.1);
  tokens.push_back(100);
  const std::vector<bool> after = held_out_documents(tokens, 0.1);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
  REQUIRE(std::count(before.begin(), before.end(), true) == 50);
  REQUIRE(changed <= 1);
}

TEST_CASE(
    "a split refuses a text that changed between its two readings, also with as many tokens as before") {
  const auto record = [](std::string_view text) {
    return DocumentRecord{.tokens = std::ssize(text),
                          .text = binary_digest_of(std::as_bytes(std::span(text)))};
  };
  const DocumentSplit split({record("one"), record("two"), record("three")}, 0.4);
  split.require_same(1, record("two"), "in/b");
  expect_error<DataError>("in/b: the text changed while it was read: 3 tokens",
                          [&] { split.require_same(1, record("owt"), "in/b"); });
  expect_error<DataError>("in/b: the text changed while it was read: 4 tokens",
                          [&] { split.require_same(1, record("two."), "in/b"); });
  expect_error<DataError>("in/d: document 4 is new: the text had 3 documents",
                          [&] { split.require_same(3, record("four"), "in/d"); });
  split.require_count(3);
  expect_error<DataError>("2 documents, before 3", [&] { split.require_count(2); });
  CHECK_FALSE(split.holds_out(3));
}

TEST_CASE("tokenize without any text is a data error and writes nothing") {
  const TemporaryFolder folder;
  folder.write("in/empty", "");
  folder.write("in/picture", std::string(100, '\0'));
  const CapturedOutput captured(folder / "output");
  expect_error<DataError>("no text in the files: 1 binary, 0 unreadable, 1 empty",
                          [&] { tokenize({.paths = {folder / "in"}, .output = folder / "data.h5"}); });
  expect_error<DataError>("none: No such file",
                          [&] { tokenize({.paths = {folder / "none"}, .output = folder / "data.h5"}); });
  REQUIRE_FALSE(std::filesystem::exists(folder / "data.h5"));
  REQUIRE(files_in(folder.path()) == 2);  // in/ and output
}

TEST_CASE("tokenize keeps the old outputs if it cannot split the text") {
  const TemporaryFolder folder;
  folder.write("in/a", "one document");
  folder.write("data.h5", "the old one");
  const CapturedOutput captured(folder / "output");
  expect_error<DataError>("leaves 1 of 1 document for training and 0 for validation", [&] {
    tokenize({.paths = {folder / "in"},
              .output = folder / "data.h5",
              .validation_output = folder / "validation.h5"});
  });
  REQUIRE(std::filesystem::file_size(folder / "data.h5") == 11);
  REQUIRE_FALSE(std::filesystem::exists(folder / "validation.h5"));
}

TEST_CASE("tokenize refuses invalid options") {
  const TemporaryFolder folder;
  const std::filesystem::path text = folder.write("a", "text");
  const std::filesystem::path out = folder / "data.h5";
  expect_error<UsageError>("no text given", [&] { tokenize({.output = out}); });
  expect_error<UsageError>("no output given", [&] { tokenize({.paths = {text}}); });
  expect_error<UsageError>("is unknown, expected bytes",
                           [&] { tokenize({.paths = {text}, .output = out, .tokenizer = "words"}); });
  expect_error<UsageError>("are both", [&] {
    tokenize({.paths = {text}, .output = out, .validation_output = folder / "./data.h5"});
  });
  for (const double fraction : {0.0, 1.0, -0.5, std::nan("")})
    expect_error<UsageError>("is not between 0 and 1", [&] {
      tokenize({.paths = {text},
                .output = out,
                .validation_output = folder / "v.h5",
                .validation_fraction = fraction});
    });
  expect_error<UsageError>("would replace", [&] { tokenize({.paths = {text}, .output = text}); });
}

}  // namespace
}  // namespace foretoken
