#include <array>

#include "io/hdf5/hdf5_detail.h"
#include "runtime/error.h"

namespace foretoken {

using detail::dataspace;
using detail::own;
using detail::silence_thread;

namespace {

DType dtype_of_stored(const Hdf5Object& object, const Hdf5Id& stored) {
  for (DType dtype :
       {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::u16, DType::u32})
    if (H5Tequal(stored.get(), hdf5_type(dtype).get()) > 0) return dtype;
  throw DataError(
      "{}: {}: has an unsupported element type, expected little-endian f32, f64, bf16, i32, i64, u8, u16 "
      "or u32",
      object.file_path().string(), object.name());
}

}  // namespace

Hdf5Dataset::Hdf5Dataset(std::filesystem::path file_path, std::string name, Hdf5Id dataset)
    : Hdf5Object(std::move(file_path), std::move(name), std::move(dataset)) {
  dtype_ = dtype_of_stored(*this, own(H5Dget_type(id()), H5Tclose, *this, "cannot read its type"));
  const Hdf5Id space = own(H5Dget_space(id()), H5Sclose, *this, "cannot read its shape");
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0 || rank > Shape::max_rank)
    throw DataError("{}: {}: has {} dims, expected at most {}", file_path_.string(), name_, rank,
                    Shape::max_rank);
  std::array<hsize_t, Shape::max_rank> stored{};
  H5Sget_simple_extent_dims(space.get(), stored.data(), nullptr);
  // Limit: half the range of an i64, in bytes, so that no later product of these dims overflows.
  double bytes = static_cast<double>(size_of(dtype_));
  std::array<std::int64_t, Shape::max_rank> dims{};
  for (std::size_t dim = 0; dim < static_cast<std::size_t>(rank); ++dim) {
    bytes *= static_cast<double>(stored[dim] ? stored[dim] : 1);
    if (bytes > 4e18)
      throw DataError("{}: {}: dim {} is {}, which is out of range", file_path_.string(), name_, dim,
                      stored[dim]);
    dims[dim] = static_cast<std::int64_t>(stored[dim]);
  }
  shape_ = Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(rank)));
}

void Hdf5Dataset::check_stored(std::uint64_t file_bytes) const {
  const Hdf5Id list = own(H5Dget_create_plist(id()), H5Pclose, *this, "cannot read its layout");
  const H5D_layout_t layout = H5Pget_layout(list.get());
  if (layout == H5D_VIRTUAL || H5Pget_external_count(list.get()) != 0)
    throw DataError(
        "{}: {}: its data is in other files (a virtual dataset or external storage), which is "
        "not supported",
        file_path_.string(), name_);
  if (H5Pget_nfilters(list.get()) != 0)
    throw DataError("{}: {}: is compressed or filtered; store it without filters", file_path_.string(),
                    name_);
  const std::uint64_t needed = static_cast<std::uint64_t>(shape_.elements()) * size_of(dtype_);
  const std::uint64_t stored = H5Dget_storage_size(id());
  const haddr_t offset = layout == H5D_CONTIGUOUS && needed ? H5Dget_offset(id()) : 0;
  if (offset == HADDR_UNDEF || stored < needed || offset > file_bytes || needed > file_bytes - offset)
    throw DataError("{}: {}: shape {} of {} needs {} bytes, more than the file stores for it",
                    file_path_.string(), name_, to_string(shape_), name_of(dtype_), needed);
}

void Hdf5Dataset::check_tensor(const Tensor& tensor, std::int64_t begin) const {
  if (tensor.dtype != dtype_ || tensor.device != DeviceKind::cpu)
    throw DefectError("{}: {}: has dtype {}, the tensor has {}", file_path_.string(), name_, name_of(dtype_),
                      name_of(tensor.dtype));
  if (begin < 0) {  // the whole dataset
    if (tensor.shape != shape_)
      throw DefectError("{}: {}: has shape {}, the tensor has {}", file_path_.string(), name_,
                        to_string(shape_), to_string(tensor.shape));
  } else if (shape_.rank() != 1 || begin > shape_[0] || tensor.elements() > shape_[0] - begin) {
    throw DefectError("{}: {}: elements {} + {} are out of range for shape {}", file_path_.string(), name_,
                      begin, tensor.elements(), to_string(shape_));
  }
}

void Hdf5Dataset::read(const Tensor& out) const {
  silence_thread();
  check_tensor(out, -1);
  const Hdf5Id type = hdf5_type(dtype_);  // closing it would clear the message of a failed transfer
  if (H5Dread(id(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data) < 0)
    throw_hdf5_error(file_path_, name_, fmt::format("{} bytes cannot be read", out.bytes()));
}

void Hdf5Dataset::write(const Tensor& values) {
  silence_thread();
  check_tensor(values, -1);
  const Hdf5Id type = hdf5_type(dtype_);
  if (H5Dwrite(id(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data) < 0)
    throw_hdf5_error(file_path_, name_, fmt::format("{} bytes cannot be written", values.bytes()));
}

void Hdf5Dataset::transfer_range(bool writing, std::int64_t begin, const Tensor& tensor) const {
  silence_thread();
  check_tensor(tensor, begin);
  if (tensor.elements() == 0) return;
  const Hdf5Id memory = dataspace({tensor.elements()});
  const Hdf5Id file = own(H5Dget_space(id()), H5Sclose, *this, "cannot read its shape");
  const hsize_t start = static_cast<hsize_t>(begin);
  const hsize_t count = static_cast<hsize_t>(tensor.elements());
  const Hdf5Id type = hdf5_type(dtype_);
  if (H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, &start, nullptr, &count, nullptr) < 0 ||
      (writing ? H5Dwrite(id(), type.get(), memory.get(), file.get(), H5P_DEFAULT, tensor.data)
               : H5Dread(id(), type.get(), memory.get(), file.get(), H5P_DEFAULT, tensor.data)) < 0)
    throw_hdf5_error(file_path_, name_,
                     fmt::format("elements {} to {} cannot be {}", begin, begin + tensor.elements(),
                                 writing ? "written" : "read"));
}

void Hdf5Dataset::read(std::int64_t begin, const Tensor& out) const {
  transfer_range(false, begin, out);
}

void Hdf5Dataset::write(std::int64_t begin, const Tensor& values) {
  transfer_range(true, begin, values);
}

std::int64_t Hdf5Dataset::address() const {
  silence_thread();
  const haddr_t address = H5Dget_offset(id());
  if (address == HADDR_UNDEF) throw_hdf5_error(file_path_, name_, "has no space in the file");
  return static_cast<std::int64_t>(address);
}

}  // namespace foretoken
