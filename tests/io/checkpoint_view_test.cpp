#include "io/checkpoint/checkpoint_view.h"

#include <cmath>

#include <hdf5.h>

#include "io/hdf5/hdf5.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
namespace fs = std::filesystem;

namespace {

/// The tensor as a program reads it that asks HDF5 for floats.
std::vector<float> view_of(const fs::path& checkpoint, const TestTensor& tensor) {
  const Hdf5File file = Hdf5File::open(checkpoint / "model.h5");
  const std::string name = "/" + tensor.kind + "/" + tensor.name;
  const Hdf5Id dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
  const Hdf5Id type(H5Dget_type(dataset.get()), H5Tclose), space(H5Dget_space(dataset.get()), H5Sclose);
  REQUIRE(H5Tequal(type.get(), hdf5_type(tensor.dtype()).get()) > 0);
  std::vector<hsize_t> dims(static_cast<std::size_t>(tensor.shape.rank()));
  REQUIRE(H5Sget_simple_extent_ndims(space.get()) == tensor.shape.rank());
  H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  REQUIRE(std::equal(dims.begin(), dims.end(), tensor.shape.dims().begin()));
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  REQUIRE(H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  return values;
}

}  // namespace

TEST_CASE("a flat range is divided into boxes that hold exactly its elements in order") {
  for (const Shape& shape :
       {Shape{11}, Shape{4, 6}, Shape{1, 7}, Shape{7, 1}, Shape{3, 2, 4}, Shape{2, 3, 1, 4}}) {
    const std::int64_t elements = shape.elements();
    for (std::int64_t begin = 0; begin <= elements; ++begin)
      for (std::int64_t end = begin; end <= elements; ++end) {
        std::int64_t next = begin;
        const std::vector<Hyperslab> slabs = hyperslabs(shape, {begin, end});
        CHECK(static_cast<int>(slabs.size()) <= 2 * shape.rank() - 1);
        for (const Hyperslab& slab : slabs) {
          std::array<std::int64_t, Shape::max_rank> index = slab.start;
          for (std::int64_t i = 0; i < slab.elements; ++i) {
            std::int64_t flat = 0;
            for (int dim = 0; dim < shape.rank(); ++dim)
              flat = flat * shape[dim] + index[static_cast<std::size_t>(dim)];
            REQUIRE(flat == next++);
            for (int dim = shape.rank() - 1; dim >= 0; --dim) {
              const std::size_t d = static_cast<std::size_t>(dim);
              if (++index[d] < slab.start[d] + slab.count[d]) break;
              index[d] = slab.start[d];
            }
          }
          REQUIRE(index == slab.start);  // the box has no other elements
        }
        REQUIRE(next == end);
      }
  }
}

TEST_CASE("an HDF5 reader sees whole tensors in the view, also after the directory was moved") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_by_tensor(2, 5));
  save_checkpoint(folder / "c", 2, cut_evenly(3, 5));
  save_checkpoint(folder / "c", 3, cut_raggedly(3, 5));
  fs::rename(folder / "c", folder / "moved");
  for (const char* step : {"step_00000001", "step_00000002", "step_00000003"})
    for (const TestTensor& tensor : test_tensors()) {
      const std::vector<float> values = view_of(folder / "moved" / step, tensor);
      for (std::size_t i = 0; i < values.size(); ++i)
        REQUIRE(values[i] == test_value(tensor, static_cast<std::int64_t>(i), 5));
    }
}

TEST_CASE("the view shows NaN, not numbers, where a shard is missing") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_evenly(2, 5));
  fs::remove(folder / "c/step_00000001/shard_00001.h5");
  for (const char* kind : {"model", "exp_avg"}) {
    const TestTensor norm = {kind, "model.norm.weight", {13}};
    const std::vector<float> values = view_of(folder / "c/step_00000001", norm);
    CHECK(values[5] == test_value(norm, 5, 5));
    CHECK(std::isnan(values[6]));
    CHECK(std::isnan(values[12]));
  }
}

TEST_CASE("a shard stores a whole tensor in its shape, and a part with its offset") {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", 1, cut_evenly(1, 5));
  save_checkpoint(folder / "c", 2, cut_evenly(2, 5));
  const Hdf5File whole = Hdf5File::open(folder / "c/step_00000001/shard_00000.h5");
  CHECK(whole.dataset("/model/model.embed_tokens.weight").shape() == Shape{257, 12});
  const Hdf5File part = Hdf5File::open(folder / "c/step_00000002/shard_00001.h5");
  const Hdf5Dataset dataset = part.dataset("/exp_avg/model.norm.weight@6");
  CHECK(dataset.shape() == Shape{7});
  CHECK(dataset.i64_attribute("offset") == 6);
  CHECK(dataset.has_attribute("global_shape"));
}
