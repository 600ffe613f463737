#include "io/tokenizers/tokenizer.h"

#include <algorithm>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"

namespace foretoken {
namespace {

TEST_CASE("the byte tokenizer decodes any bytes to themselves") {
  const auto tokenizer = make_tokenizer("bytes");
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  std::vector<std::int32_t> ids{7};
  tokenizer->make_encoder()->encode(text, ids);
  REQUIRE(ids.size() == 257);
  REQUIRE(ids[0] == 7);  // ids are appended
  for (int byte = 0; byte < 256; ++byte) REQUIRE(ids[static_cast<std::size_t>(byte) + 1] == byte);
  REQUIRE(tokenizer->decode(std::span(ids).subspan(1)) == text);
}

TEST_CASE("text that spells the end of a document is text to the byte tokenizer") {
  const auto tokenizer = make_tokenizer("bytes");
  std::vector<std::int32_t> ids;
  tokenizer->make_encoder()->encode("<|endofdocument|>", ids);
  REQUIRE(ids.size() == 17);
  REQUIRE(std::count(ids.begin(), ids.end(), 256) == 0);
  REQUIRE(tokenizer->decode(std::vector<std::int32_t>{'a', 256, 'b'}) == "a<|endofdocument|>b");
}

TEST_CASE("the byte tokenizer's identity equals that of existing datasets") {
  const TokenizerIdentity identity = make_tokenizer("bytes")->identity();
  REQUIRE(identity == TokenizerIdentity{"bytes", "7616142adcc6254c5795ed877f813edd", 257, 256});
}

TEST_CASE(
    "a byte token counts one byte, the end of a document none, and other tokenizers' tokens are not "
    "counted") {
  const TokenizerIdentity identity = make_tokenizer("bytes")->identity();
  std::vector<std::int32_t> expected(257, 1);
  expected[256] = 0;
  REQUIRE(bytes_of_tokens(identity) == expected);
  REQUIRE(bytes_of_tokens({"gpt2", "0", 50257, 50256}).empty());
  REQUIRE(bytes_of_tokens({"bytes", "another digest", 257, 256}).empty());
}

TEST_CASE("ids outside the vocabulary and unknown tokenizers are refused by name") {
  const auto tokenizer = make_tokenizer("bytes");
  expect_error<DataError>("id 257 is outside the vocabulary of 257",
                          [&] { tokenizer->decode(std::vector<std::int32_t>{257}); });
  expect_error<DataError>("id -1", [&] { tokenizer->decode(std::vector<std::int32_t>{-1}); });
  expect_error<UsageError>("\"byte\" is unknown, expected bytes", [] { make_tokenizer("byte"); });
}

}  // namespace
}  // namespace foretoken
