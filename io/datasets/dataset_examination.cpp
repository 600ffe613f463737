#include "io/datasets/dataset_examination.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hdf5.h>

#include "io/datasets/token_dataset_index.h"
#include "io/files/bounded_json.h"
#include "io/files/file_reader.h"
#include "io/hdf5/hdf5.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* argument = "--examine-dataset";
constexpr std::chrono::seconds limit{60};
constexpr std::size_t most_output = std::size_t{1} << 28;  // 5 million chunks of up to 53 bytes of JSON
constexpr rlim_t memory_for_hdf5 = rlim_t{1} << 30;

// The child.

TokenizerIdentity read_tokenizer(const Hdf5File& file) {
  const std::string path = file.file_path().string();
  if (!file.has_attribute("format") || file.string_attribute("format") != token_dataset_format)
    throw DataError("{}: is not a token dataset (attribute format is not \"{}\")", path,
                    token_dataset_format);
  const std::int64_t version = file.i64_attribute("format_version");
  if (version == token_dataset_version)
    throw DataError("{}: the index at its end is missing: the file is truncated or was modified", path);
  if (version != 1)
    throw DataError("{}: format_version is {}, this program reads 1 and {}", path, version,
                    token_dataset_version);
  TokenizerIdentity tokenizer;
  tokenizer.name = file.string_attribute("tokenizer_name");
  tokenizer.digest = file.string_attribute("tokenizer_digest");
  tokenizer.vocab_size = file.i64_attribute("vocab_size");
  const std::int64_t end = file.i64_attribute("end_of_document");
  if (end < 0 || end > std::numeric_limits<std::int32_t>::max())
    throw DataError("{}: end_of_document is {}, out of range for any vocabulary", path, end);
  tokenizer.end_of_document = static_cast<std::int32_t>(end);
  return tokenizer;
}

Json extent(std::int64_t begin, std::int64_t count, haddr_t address) {
  return {begin, count, address};
}

/// The extents of a chunked array; the last chunk may reach beyond the array's end.
Json extents_of_chunks(const Hdf5Dataset& dataset, std::int64_t elements_a_chunk) {
  const Hdf5Id space(H5Dget_space(dataset.id()), H5Sclose);
  hsize_t chunks = 0;
  if (H5Dget_num_chunks(dataset.id(), space.get(), &chunks) < 0)
    throw_hdf5_error(dataset.file_path(), dataset.name(), "its number of chunks cannot be read");
  Json extents = Json::array();
  for (hsize_t i = 0; i < chunks; ++i) {
    hsize_t begin = 0, bytes = 0;
    unsigned filters = 0;
    haddr_t address = 0;
    if (H5Dget_chunk_info(dataset.id(), space.get(), i, &begin, &filters, &address, &bytes) < 0)
      throw_hdf5_error(dataset.file_path(), dataset.name(), fmt::format("chunk {} cannot be found", i));
    if (begin >= static_cast<hsize_t>(dataset.shape()[0])) continue;  // left from a longer array
    const std::int64_t first = static_cast<std::int64_t>(begin);
    extents.push_back(extent(first, std::min(elements_a_chunk, dataset.shape()[0] - first), address));
  }
  return extents;
}

Json array_to_json(const Hdf5File& file, const char* name) {
  const Hdf5Dataset dataset = file.dataset(name);
  if (dataset.shape().rank() != 1)
    throw DataError("{}: {}: is {} of {}, expected one dim", file.file_path().string(), name,
                    to_string(dataset.shape()), name_of(dataset.dtype()));
  const Hdf5Id list(H5Dget_create_plist(dataset.id()), H5Pclose);
  const std::int64_t count = dataset.shape()[0];
  Json extents = Json::array();
  if (H5Pget_layout(list.get()) == H5D_CHUNKED) {
    hsize_t elements = 0;
    if (H5Pget_chunk(list.get(), 1, &elements) != 1 || elements > static_cast<hsize_t>(1) << 32)
      throw DataError("{}: {}: its chunks cannot be read", file.file_path().string(), name);
    extents = extents_of_chunks(dataset, static_cast<std::int64_t>(elements));
  } else if (H5Pget_layout(list.get()) != H5D_CONTIGUOUS) {
    throw DataError("{}: {}: is neither contiguous nor in chunks", file.file_path().string(), name);
  } else if (count > 0) {
    extents.push_back(extent(0, count, H5Dget_offset(dataset.id())));
  }
  return {{"dtype", name_of(dataset.dtype())}, {"count", count}, {"extents", std::move(extents)}};
}

std::string examined(const std::string& path) {
  const Hdf5File file = Hdf5File::open(path);
  const TokenizerIdentity tokenizer = read_tokenizer(file);
  return Json{{"tokenizer_name", tokenizer.name},
              {"tokenizer_digest", tokenizer.digest},
              {"vocab_size", tokenizer.vocab_size},
              {"end_of_document", tokenizer.end_of_document},
              {"tokens", array_to_json(file, "/tokens")},
              {"document_offsets", array_to_json(file, "/document_offsets")}}
      .dump();
}

/// Limits memory and time of this process, so that a damaged size cannot exhaust the machine and a loop ends.
void limit_this_process() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto set = [](auto resource, rlim_t value) {
    const rlimit both{value, value};
    setrlimit(resource, &both);
  };
  set(RLIMIT_CORE, 0);
  set(RLIMIT_CPU, limit.count());
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // the sanitizers need more than any useful limit
  if (std::FILE* statm = std::fopen("/proc/self/statm", "r")) {
    unsigned long pages = 0;
    if (std::fscanf(statm, "%lu", &pages) == 1)
      set(RLIMIT_AS, pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + memory_for_hdf5);
    std::fclose(statm);
  }
#endif
}

bool write_all(const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (count < 0 && errno != EINTR) return false;
    done += count > 0 ? static_cast<std::size_t>(count) : 0;
  }
  return true;
}

// The parent.

struct ChildResult {
  int status = 0;
  bool timed_out = false;
  std::string output;
};

pid_t start_child(const std::filesystem::path& path, int output) {
  std::vector<char*> environment;
  for (char** variable = environ; *variable; ++variable) environment.push_back(*variable);
  std::string one_thread = "OPENBLAS_NUM_THREADS=1";  // starting more threads takes longer than the work
  environment.insert(environment.begin(), one_thread.data());
  environment.push_back(nullptr);
  std::string program = "foretoken", flag = argument, file = path.string();
  char* arguments[] = {program.data(), flag.data(), file.data(), nullptr};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // The child ignores stop signals that the whole job receives; otherwise its end would look like a crash.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) sigaddset(&blocked, signal);
  posix_spawnattr_setsigmask(&attributes, &blocked);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t child = -1;
  const int error =
      posix_spawn(&child, "/proc/self/exe", &actions, &attributes, arguments, environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw DataError("{}: the process that examines it cannot be started: {}", path.string(),
                    std::strerror(error));
  return child;
}

ChildResult run_child(const std::filesystem::path& path) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw DataError("{}: cannot be examined: {}", path.string(), std::strerror(errno));
  pid_t child = -1;
  try {
    child = start_child(path, ends[1]);
  } catch (...) {
    close(ends[0]), close(ends[1]);
    throw;
  }
  close(ends[1]);
  ChildResult result;
  const Clock::time_point deadline = Clock::now() + limit;
  std::vector<char> buffer(1 << 16);
  while (result.output.size() < most_output) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd waiting{ends[0], POLLIN, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t count = ready > 0 ? read(ends[0], buffer.data(), buffer.size()) : -1;
    if (count < 0 && ready > 0 && errno == EINTR) continue;
    result.timed_out = ready == 0;
    if (count <= 0) break;
    result.output.append(buffer.data(), static_cast<std::size_t>(count));
  }
  close(ends[0]);
  if (result.timed_out || result.output.size() >= most_output) kill(child, SIGKILL);
  while (waitpid(child, &result.status, 0) < 0 && errno == EINTR) {
  }
  return result;
}

std::int64_t natural(const Json& json) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    throw DataError("{} is not a whole number", brief(json));
  return json.get<std::int64_t>();
}

/// Reads the description of an array. Throws a DataError unless the array has at least `fewest` elements, one
/// of the `dtypes`, and extents inside a file of `file_bytes` bytes.
ExaminedArray array_from(const Json& json, const char* name, std::span<const DType> dtypes,
                         std::int64_t fewest, std::int64_t file_bytes) {
  ExaminedArray array;
  const std::string dtype = json.at("dtype").get<std::string>();
  array.count = natural(json.at("count"));
  const auto found = std::find_if(dtypes.begin(), dtypes.end(), [&](DType d) { return name_of(d) == dtype; });
  if (found == dtypes.end() || array.count < fewest)
    throw DataError("{}: is [{}] of {}, expected {}", name, array.count, dtype,
                    dtypes.size() > 1 ? "one dim of u16 or u32" : "at least two of i64");
  array.dtype = *found;
  const auto element = static_cast<std::int64_t>(size_of(array.dtype));
  std::vector<Range> ranges;
  for (const Json& entry : json.at("extents")) {
    const StoredExtent part{natural(entry.at(0)), natural(entry.at(1)), natural(entry.at(2))};
    if (part.address > file_bytes || part.count > (file_bytes - part.address) / element)
      throw DataError("{}: {} elements at byte {} are out of range for the file of {} bytes", name,
                      part.count, part.address, file_bytes);
    ranges.push_back({part.address, part.address + part.count * element});
    array.extents.push_back(part);
  }
  const auto by_begin = [](const auto& a, const auto& b) { return a.begin < b.begin; };
  std::sort(array.extents.begin(), array.extents.end(), by_begin);
  std::sort(ranges.begin(), ranges.end(), by_begin);
  std::int64_t covered = 0;
  for (const StoredExtent& part : array.extents) {
    if (part.begin != covered) break;
    covered += part.count;
  }
  if (covered != array.count)
    throw DataError("{}: declares {} elements, but the file holds at most {}", name, array.count, covered);
  for (std::size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].begin < ranges[i - 1].end)
      throw DataError("{}: two of its parts overlap at byte {}", name, ranges[i].begin);
  return array;
}

ExaminedDataset dataset_from(const Json& json, std::int64_t file_bytes) {
  constexpr DType token_dtypes[] = {DType::u16, DType::u32}, offset_dtypes[] = {DType::i64};
  ExaminedDataset dataset;
  dataset.tokenizer.name = json.at("tokenizer_name").get<std::string>();
  dataset.tokenizer.digest = json.at("tokenizer_digest").get<std::string>();
  dataset.tokenizer.vocab_size = json.at("vocab_size").get<std::int64_t>();
  dataset.tokenizer.end_of_document = json.at("end_of_document").get<std::int32_t>();
  dataset.tokens = array_from(json.at("tokens"), "/tokens", token_dtypes, 0, file_bytes);
  dataset.document_offsets =
      array_from(json.at("document_offsets"), "/document_offsets", offset_dtypes, 2, file_bytes);
  return dataset;
}

}  // namespace

ExaminedDataset examine_dataset(const std::filesystem::path& path) {
  const std::int64_t file_bytes = FileReader(path).size();
  const ChildResult result = run_child(path);
  if (result.timed_out)
    throw DataError("{}: damaged: HDF5 did not finish reading it within {} s", path.string(), limit.count());
  if (WIFSIGNALED(result.status))
    throw DataError("{}: damaged: HDF5 crashed on it ({})", path.string(),
                    strsignal(WTERMSIG(result.status)));
  const int code = WEXITSTATUS(result.status);
  if (code == static_cast<int>(ExitCode::data)) throw DataError("{}", result.output);
  if (code != 0)
    throw DataError("{}: damaged: the process that examined it ended with code {}", path.string(), code);
  try {
    return dataset_from(parse_json_bounded(result.output), file_bytes);
  } catch (const Json::exception& error) {
    throw DataError("{}: damaged: {}", path.string(), error.what());
  } catch (const DataError& error) {
    throw DataError("{}: {}", path.string(), error.what());
  }
}

std::optional<int> run_examination(int argc, char** argv) {
  if (argc != 3 || std::strcmp(argv[1], argument) != 0) return std::nullopt;
  limit_this_process();
  try {
    return write_all(examined(argv[2])) ? 0 : 1;
  } catch (const std::exception& error) {
    write_all(error.what());
    return static_cast<int>(ExitCode::data);
  }
}

}  // namespace foretoken
