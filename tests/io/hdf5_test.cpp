#include "io/hdf5/hdf5.h"

#include <cmath>
#include <csignal>
#include <cstring>
#include <numeric>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <hdf5.h>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/source_tree.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

template <class T>
std::vector<T> counted(std::size_t count) {
  std::vector<T> values(count);
  std::iota(values.begin(), values.end(), T{1});
  return values;
}

template <class T>
Tensor vector_tensor(std::vector<T>& values) {
  return tensor_over(std::span<T>(values), {static_cast<std::int64_t>(values.size())});
}

TEST_CASE("hdf5 datasets read back whole and in ranges") {
  const TemporaryFolder folder;
  std::vector<float> values = counted<float>(6);
  std::vector<std::int64_t> ids = counted<std::int64_t>(10);
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    file.create_dataset("/model/model.norm.weight", DType::f32, {2, 3})
        .write(tensor_over(std::span<float>(values), {2, 3}));
    Hdf5Dataset flat = file.create_dataset("/ids", DType::i64, {10});
    flat.write(4, vector_tensor(ids).flat(4, 6));
    flat.write(0, vector_tensor(ids).flat(0, 4));
    file.close();
  }
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  REQUIRE(file.has("/model/model.norm.weight"));
  REQUIRE_FALSE(file.has("/moments/model.norm.weight"));
  const Hdf5Dataset matrix = file.dataset("/model/model.norm.weight");
  REQUIRE(matrix.shape() == Shape{2, 3});
  std::vector<float> back(6);
  matrix.read(tensor_over(std::span<float>(back), {2, 3}));
  REQUIRE(back == values);
  std::vector<std::int64_t> middle(3);
  file.dataset("/ids").read(5, vector_tensor(middle));
  REQUIRE(middle == std::vector<std::int64_t>{6, 7, 8});
}

TEST_CASE("hdf5 preserves every dtype, and bf16 as a two-byte float") {
  const TemporaryFolder folder;
  const std::vector<DType> dtypes{DType::f32, DType::f64, DType::bf16, DType::i32,
                                  DType::i64, DType::u8,  DType::u16,  DType::u32};
  std::vector<std::uint64_t> memory{0x3f80'4000'c0a0'0001, 0x0102'0304'0506'0708};
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    for (DType dtype : dtypes)
      file.create_dataset(name_of(dtype), dtype, {2})
          .write(Tensor{memory.data(), dtype, DeviceKind::cpu, {2}});
    file.close();
  }
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  for (DType dtype : dtypes) {
    const Hdf5Dataset dataset = file.dataset(name_of(dtype));
    REQUIRE(dataset.dtype() == dtype);
    std::vector<std::uint64_t> back(2);
    const Tensor out{back.data(), dtype, DeviceKind::cpu, {2}};
    dataset.read(out);
    REQUIRE(std::memcmp(back.data(), memory.data(), out.bytes()) == 0);
  }
}

TEST_CASE("bf16 written by h5py is read as bf16, and HDF5 converts bf16 written here to float") {
  const Hdf5File file = Hdf5File::open(testing::in_source_tree("tests/golden/bf16.h5"));
  const Hdf5Dataset dataset = file.dataset("values");
  REQUIRE(dataset.dtype() == DType::bf16);
  std::vector<BFloat16> values(8);
  dataset.read(vector_tensor(values));
  std::vector<float> floats(8);
  REQUIRE(H5Dread(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, floats.data()) >= 0);
  REQUIRE(floats == std::vector<float>{0, 1, -2.5, 3.140625, 0x1p-126F, 0x1p-133F, -0x1.fep127F, INFINITY});
  for (std::size_t i = 0; i < floats.size(); ++i) REQUIRE(static_cast<float>(values[i]) == floats[i]);
}

TEST_CASE("hdf5 attributes read back, and a missing or wrong one is named") {
  const TemporaryFolder folder;
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    file.write_attribute("tokenizer", std::string("bytes – ü"));
    file.write_attribute("empty", std::string());
    file.write_attribute("version", std::int64_t{-7});
    file.write_attribute("rate", 0.125);
    Hdf5Dataset dataset = file.create_dataset("x", DType::u8, {0});
    dataset.write_attribute("offset", std::int64_t{1} << 60);
    file.close();
  }
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  REQUIRE(file.string_attribute("tokenizer") == "bytes – ü");
  REQUIRE(file.string_attribute("empty").empty());
  REQUIRE(file.i64_attribute("version") == -7);
  REQUIRE(file.f64_attribute("rate") == 0.125);
  REQUIRE(file.dataset("x").i64_attribute("offset") == std::int64_t{1} << 60);
  REQUIRE_FALSE(file.has_attribute("digest"));
  expect_error<DataError>("digest is missing", [&] { file.i64_attribute("digest"); });
  expect_error<DataError>("one integer", [&] { file.i64_attribute("tokenizer"); });
  expect_error<DataError>("one string", [&] { file.string_attribute("rate"); });
}

TEST_CASE("hdf5 strings too long for an attribute are refused before they are written") {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create(folder / "a.h5");
  file.write_attribute("fits", std::string(64'000, 'x'));
  REQUIRE(file.string_attribute("fits") == std::string(64'000, 'x'));
  REQUIRE_THROWS_AS(file.write_attribute("long", std::string(64'001, 'x')), DefectError);
}

TEST_CASE("a reserved hdf5 dataset has its address in the file before anything is written") {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> values = counted<std::uint16_t>(600'000);
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    REQUIRE_THROWS_AS(file.create_dataset("later", DType::u16, {600'000}).address(), DataError);
    Hdf5Dataset reserved = file.reserve_dataset("tokens", DType::u16, {600'000});
    REQUIRE(reserved.address() == 1 << 20);
    reserved.write(vector_tensor(values));
    REQUIRE(reserved.address() == 1 << 20);
    file.close();
  }
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  const Hdf5Dataset dataset = file.dataset("tokens");
  std::vector<std::uint16_t> back(5);
  dataset.read(599'995, vector_tensor(back));
  REQUIRE(std::equal(back.begin(), back.end(), values.begin() + 599'995));
  REQUIRE_THROWS_AS(dataset.read(599'996, vector_tensor(back)), DefectError);
  REQUIRE_THROWS_AS(dataset.read(-1, vector_tensor(back)), DefectError);
}

TEST_CASE("hdf5 data that is stored in another file is refused, however it is accessed") {
  const TemporaryFolder folder;
  std::vector<std::int64_t> values = counted<std::int64_t>(100);
  {
    Hdf5File file = Hdf5File::create(folder / "source.h5");
    file.create_dataset("x", DType::i64, {100}).write(vector_tensor(values));
    file.close();
  }
  const std::string source = (folder / "source.h5").string();
  const hid_t id = H5Fcreate((folder / "a.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t size = 100, claimed = hsize_t{1} << 31;
  const hid_t small = H5Screate_simple(1, &size, nullptr), large = H5Screate_simple(1, &claimed, nullptr);
  const hid_t as_virtual = H5Pcreate(H5P_DATASET_CREATE), as_external = H5Pcreate(H5P_DATASET_CREATE);
  REQUIRE(H5Pset_virtual(as_virtual, large, source.c_str(), "/x", large) >= 0);
  REQUIRE(H5Pset_external(as_external, source.c_str(), 0, 800) >= 0);
  H5Dclose(H5Dcreate2(id, "virtual", H5T_STD_I64LE, large, H5P_DEFAULT, as_virtual, H5P_DEFAULT));
  H5Dclose(H5Dcreate2(id, "external", H5T_STD_I64LE, small, H5P_DEFAULT, as_external, H5P_DEFAULT));
  REQUIRE(H5Lcreate_external(source.c_str(), "/x", id, "linked", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  REQUIRE(H5Lcreate_soft("/linked", id, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  for (const hid_t list : {as_virtual, as_external}) H5Pclose(list);
  for (const hid_t space : {small, large}) H5Sclose(space);
  REQUIRE(H5Fclose(id) >= 0);
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  for (const char* name : {"virtual", "external"})
    expect_error<DataError>("its data is in other files", [&] { file.dataset(name); });
  for (const char* name : {"linked", "soft"})
    expect_error<DataError>("is a link, and links are not followed", [&] { file.dataset(name); });
}

TEST_CASE("hdf5 files that are missing, of another format or truncated are data errors that name the file") {
  const TemporaryFolder folder;
  expect_error<DataError>("none.h5: there is no such file", [&] { Hdf5File::open(folder / "none.h5"); });
  expect_error<DataError>("is a folder, expected a file", [&] { Hdf5File::open(folder.path()); });
  expect_error<DataError>("text.h5", [&] { Hdf5File::open(folder.write("text.h5", "not HDF5 at all")); });
  {
    std::vector<double> values = counted<double>(40'000);
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    file.create_dataset("x", DType::f64, {40'000}).write(vector_tensor(values));
    file.close();
    REQUIRE_THROWS_AS(Hdf5File::open(folder / "a.h5").dataset("y"), DataError);
  }
  std::filesystem::resize_file(folder / "a.h5", std::filesystem::file_size(folder / "a.h5") - 1000);
  REQUIRE_THROWS_AS(Hdf5File::open(folder / "a.h5"), DataError);
}

TEST_CASE("an hdf5 dataset that was never written is refused, not read as zeros") {
  const TemporaryFolder folder;
  {
    Hdf5File file = Hdf5File::create(folder / "a.h5");
    file.create_dataset("x", DType::f64, {1'000'000'000'000});
    file.close();
  }
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  REQUIRE_THROWS_AS(file.dataset("x"), DataError);
}

/// Writes a dataset of 8 MiB and an attribute. Returns the message of the DataError, or "".
std::string write_eight_megabytes(const std::filesystem::path& path) {
  try {
    Hdf5File file = Hdf5File::create(path);
    Hdf5Dataset dataset = file.create_dataset("tokens", DType::u16, {8 << 19});
    std::vector<std::uint16_t> values(1 << 19);
    for (int i = 0; i < 8; ++i) dataset.write(std::int64_t{i} << 19, vector_tensor(values));
    file.write_attribute("complete", std::int64_t{1});
    file.close();
    return {};
  } catch (const DataError& error) {
    return error.what();
  }
}

TEST_CASE("hdf5 reports a full disk at every operation that hits it, and stays usable") {
  const TemporaryFolder folder;
  for (const rlim_t bytes : {0, 100, 1000, 5000, 3 << 20, (8 << 20) + 100}) {
    const pid_t child = fork();
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      rlimit limit{};
      getrlimit(RLIMIT_FSIZE, &limit);
      limit.rlim_cur = bytes;
      setrlimit(RLIMIT_FSIZE, &limit);
      const std::string message = write_eight_megabytes(folder / "a.h5");
      if (message.find("a.h5: ") == std::string::npos || message.find("no space") == std::string::npos)
        _exit(2);
      limit.rlim_cur = limit.rlim_max;
      setrlimit(RLIMIT_FSIZE, &limit);
      if (!write_eight_megabytes(folder / "a.h5").empty()) _exit(3);
      std::exit(0);  // runs all exit handlers
    }
    int status = 0;
    CAPTURE(bytes);
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(status == 0);
    REQUIRE(Hdf5File::open(folder / "a.h5").i64_attribute("complete") == 1);
  }
}

TEST_CASE("hdf5 files are written and read by several threads at once") {
  const TemporaryFolder folder;
  std::vector<int> wrong(4, 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&folder, &wrong, t] {
      const std::filesystem::path path = folder / fmt::format("{}.h5", t);
      std::vector<std::int32_t> values(50'000, t);
      Hdf5File file = Hdf5File::create(path);
      file.create_dataset("x", DType::i32, {50'000}).write(vector_tensor(values));
      file.close();
      std::vector<std::int32_t> back(50'000, -1);
      Hdf5File::open(path).dataset("x").read(vector_tensor(back));
      wrong[static_cast<std::size_t>(t)] = back != values;
    });
  for (std::thread& thread : threads) thread.join();
  REQUIRE(wrong == std::vector<int>(4, 0));
}

}  // namespace
}  // namespace foretoken
