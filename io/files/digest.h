#pragma once
// Digests of stored data: XXH3-128 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), which is fast enough
// for every byte that is written or read. It detects damage, not forgery.

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace foretoken {

/// 32 lower-case hex digits in canonical (big-endian) order, as `xxh128sum` prints them.
std::string digest_of(std::span<const std::byte> bytes);
std::string digest_of(std::string_view text);

/// The same 128 bits as 16 bytes in canonical (big-endian) order, for tables of many digests.
using BinaryDigest = std::array<std::byte, 16>;
BinaryDigest binary_digest_of(std::span<const std::byte> bytes);
/// 32 lower-case hex digits.
std::string to_string(const BinaryDigest& digest);

/// The same digest of bytes that arrive in parts.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  DigestStream(const DigestStream&) = delete;
  DigestStream& operator=(const DigestStream&) = delete;

  void add(std::span<const std::byte> bytes);
  std::string digest() const { return to_string(binary_digest()); }
  BinaryDigest binary_digest() const;

 private:
  void* state_;
};

/// Example: "91c04e7a…". Enough to tell two digests apart in a message.
std::string abbreviated(const std::string& digest);

}  // namespace foretoken
