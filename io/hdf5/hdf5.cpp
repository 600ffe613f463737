#include "io/hdf5/hdf5.h"

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "io/hdf5/hdf5_detail.h"
#include "runtime/error.h"

namespace foretoken {

static_assert(std::is_same_v<hid_t, std::int64_t>, "Hdf5Id holds a hid_t");

namespace detail {

void silence_thread() {
  // After a failed close (a full disk) HDF5's clean-up at exit reads freed memory. This program closes all
  // that it opens.
  static const bool no_exit_handler = H5dont_atexit() >= 0;
  thread_local const bool silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)no_exit_handler, (void)silent;
}

std::string last_message() {
  std::string message;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* error, void* out) -> herr_t {
        if (depth == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &message);
  H5Eclear2(H5E_DEFAULT);
  return message.empty() ? "no message from HDF5" : message;
}

Hdf5Id own(std::int64_t id, Hdf5Id::Close close, const Hdf5Object& object, std::string_view what) {
  if (id < 0) throw_hdf5_error(object.file_path(), object.name(), what);
  return {id, close};
}

Hdf5Id property_list(std::int64_t list_class) {
  const hid_t id = H5Pcreate(list_class);
  if (id < 0) throw DefectError("HDF5: cannot create a property list: {}", last_message());
  return {id, H5Pclose};
}

void must(bool done, const char* what) {
  if (!done) throw DefectError("HDF5: {}: {}", what, last_message());
}

Hdf5Id dataspace(const Shape& shape) {
  std::vector<hsize_t> dims(shape.dims().begin(), shape.dims().end());
  const hid_t id = dims.empty() ? H5Screate(H5S_SCALAR)
                                : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  must(id >= 0, "cannot create a dataspace");
  return {id, H5Sclose};
}

}  // namespace detail

using detail::must;
using detail::silence_thread;

std::string hdf5_version() {
  silence_thread();  // before the first call of HDF5 in a process, whichever it is
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

Hdf5Id& Hdf5Id::operator=(Hdf5Id&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

bool Hdf5Id::reset() noexcept {
  if (id_ < 0) return true;
  silence_thread();
  return close_(std::exchange(id_, -1)) >= 0;
}

void throw_hdf5_error(const std::filesystem::path& file, std::string_view object, std::string_view what) {
  const std::string message = detail::last_message();
  for (int error : {ENOSPC, EDQUOT, EFBIG})
    if (message.find(fmt::format("errno = {},", error)) != std::string::npos)
      throw DataError("{}: {}: {}: no space: {}", file.string(), object, what, std::strerror(error));
  throw DataError("{}: {}: {}: {}", file.string(), object, what, message);
}

Hdf5Id hdf5_type(DType dtype) {
  silence_thread();
  const auto standard = [&]() -> hid_t {
    switch (dtype) {
      case DType::f32:
      case DType::bf16:
        return H5T_IEEE_F32LE;
      case DType::f64:
        return H5T_IEEE_F64LE;
      case DType::i32:
        return H5T_STD_I32LE;
      case DType::i64:
        return H5T_STD_I64LE;
      case DType::u8:
        return H5T_STD_U8LE;
      case DType::u16:
        return H5T_STD_U16LE;
      case DType::u32:
        return H5T_STD_U32LE;
      case DType::f8e4m3:
      case DType::f8e5m2:
        break;  // for copies of weights and activations only; never saved
    }
    throw DefectError("HDF5: no type for dtype {}", static_cast<int>(dtype));
  };
  const hid_t id = H5Tcopy(standard());
  must(id >= 0, "cannot copy a type");
  Hdf5Id type(id, H5Tclose);
  if (dtype == DType::bf16) {  // the upper half of an f32: sign 15, exponent 14..7, mantissa 6..0
    must(H5Tset_fields(id, 15, 7, 8, 0, 7) >= 0 && H5Tset_precision(id, 16) >= 0 && H5Tset_size(id, 2) >= 0 &&
             H5Tset_ebias(id, 127) >= 0,
         "cannot create the bf16 type");
  }
  return type;
}

}  // namespace foretoken
