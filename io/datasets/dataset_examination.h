#pragma once
// HDF5 1.10 reads beyond its buffers on some damaged object headers, so a damaged file may crash the process
// that opens it. A token dataset without an index (version 1) is therefore examined by a child process: it
// reports the file offsets of the arrays, and this process reads the arrays without HDF5. The child runs this
// program again, so main() must call run_examination() first.

#include <filesystem>
#include <optional>
#include <vector>

#include "io/tokenizers/tokenizer_identity.h"
#include "runtime/tensor.h"

namespace foretoken {

/// A part of a one-dim array that is contiguous in the file.
struct StoredExtent {
  std::int64_t begin = 0;    // first element
  std::int64_t count = 0;    // elements
  std::int64_t address = 0;  // file offset of the first byte
};

/// A one-dim array: extents in ascending order that cover [0, count) without gaps or overlaps. No two of them
/// share a byte of the file.
struct ExaminedArray {
  DType dtype = DType::u8;
  std::int64_t count = 0;
  std::vector<StoredExtent> extents;
};

/// What the child process reports about a token dataset of version 1.
struct ExaminedDataset {
  TokenizerIdentity tokenizer;
  ExaminedArray tokens;
  ExaminedArray document_offsets;
};

/// Examines the file in a child process and checks that every reported extent is inside the file. Throws a
/// DataError that states what is wrong with the file, or that HDF5 crashed on it or took more than a minute.
ExaminedDataset examine_dataset(const std::filesystem::path& path);

/// If the arguments are those of such a child process, examines the file and returns the exit code.
std::optional<int> run_examination(int argc, char** argv);

}  // namespace foretoken
