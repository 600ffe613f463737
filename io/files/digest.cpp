#include "io/files/digest.h"

#include <cstring>
#include <new>

#include <fmt/format.h>
#include <xxhash.h>

namespace foretoken {

namespace {

std::string hex(const XXH128_hash_t& hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

BinaryDigest canonical(const XXH128_hash_t& hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  BinaryDigest digest;
  static_assert(sizeof(bytes.digest) == sizeof(digest));
  std::memcpy(digest.data(), bytes.digest, digest.size());
  return digest;
}

}  // namespace

std::string digest_of(std::span<const std::byte> bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string digest_of(std::string_view text) {
  return digest_of(std::as_bytes(std::span(text)));
}

BinaryDigest binary_digest_of(std::span<const std::byte> bytes) {
  return canonical(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string to_string(const BinaryDigest& digest) {
  std::string text;
  for (const std::byte byte : digest) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

DigestStream::DigestStream() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}

DigestStream::~DigestStream() {
  XXH3_freeState(static_cast<XXH3_state_t*>(state_));
}

void DigestStream::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size());
}

BinaryDigest DigestStream::binary_digest() const {
  return canonical(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_)));
}

std::string abbreviated(const std::string& digest) {
  return digest.substr(0, 8) + "…";
}

}  // namespace foretoken
