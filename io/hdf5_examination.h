#pragma once
// HDF5 1.10 reads beyond its buffers on some damaged object headers, so that a file from outside may crash
// the process that opens it. A token dataset without an index of our own (version 1) is therefore examined by
// a child process: it says where the arrays lie, and this process reads them by position. The child is this
// program once more, so main() calls run_examination() first of all.

#include <filesystem>
#include <optional>
#include <vector>

#include "io/tokenizer.h"
#include "runtime/tensor.h"

namespace foretoken {

/// A part of a one-dim array that lies in one piece in the file.
struct StoredExtent {
  std::int64_t begin = 0;    // first element
  std::int64_t count = 0;    // elements
  std::int64_t address = 0;  // of the first byte in the file
};

/// A one-dim array: extents in ascending order that cover [0, count) without gaps or overlaps, of which no
/// two share a byte of the file.
struct ExaminedArray {
  DType dtype = DType::u8;
  std::int64_t count = 0;
  std::vector<StoredExtent> extents;
};

/// What HDF5 says of a token dataset of version 1.
struct ExaminedDataset {
  TokenizerIdentity tokenizer;
  ExaminedArray tokens;
  ExaminedArray document_offsets;
};

/// Examines in a child process and checks what it says: every extent lies in the file. A DataError that says
/// what is wrong with the file, or that HDF5 crashed on it or took more than a minute.
ExaminedDataset examine_dataset(const std::filesystem::path& path);

/// Where the arguments are those of such a child: does its work and returns its exit code.
std::optional<int> run_examination(int argc, char** argv);

}  // namespace foretoken
