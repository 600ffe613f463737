#pragma once
// A thin layer over the HDF5 C API: owned identifiers, checked calls, typed errors. HDF5's own printing is
// off; its message becomes the end of a message that names file, object and operation. A full disk gets a
// clear message.
//
// Files are written in HDF5 1.10's format. Its metadata has checksums, so damage there is an error; in the
// older format it can crash HDF5. Data is contiguous, objects of 1 MiB and more are aligned to 1 MiB, there
// are no fill values. Contiguous, compact and uncompressed chunked data can be read, without chunk cache and
// without file locks, which publication by rename makes unnecessary. Data in another file (a virtual
// dataset, external storage, a link) is refused. Values are stored little-endian and never converted: the
// dtypes of a tensor and its dataset must be equal. bf16 is stored as a two-byte float, the type that HDF5
// 2.0 names H5T_FLOAT_BFLOAT16LE; every version of HDF5 converts it, and h5py shows it as float32.
//
// HDF5 1.10 may crash on a damaged file, so files that another program may have written are opened in a child
// process only (io/datasets/dataset_examination.h).
//
// HDF5 must be built thread-safe, as the serial library of Debian and Ubuntu is; then calls from any thread
// work.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/tensor.h"

namespace foretoken {

/// Version of the HDF5 library that this process uses: "1.10.8".
std::string hdf5_version();

/// Owner of one HDF5 identifier (a hid_t) of any kind. Move-only; the destructor closes and never throws.
class Hdf5Id {
 public:
  using Close = int (*)(std::int64_t);

  Hdf5Id() = default;
  Hdf5Id(std::int64_t id, Close close) : id_(id), close_(close) {}
  Hdf5Id(Hdf5Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Id& operator=(Hdf5Id&& other) noexcept;
  ~Hdf5Id() { reset(); }

  std::int64_t get() const { return id_; }
  /// Closes the identifier; returns false if HDF5 reports a failure.
  bool reset() noexcept;

 private:
  std::int64_t id_ = -1;
  Close close_ = nullptr;
};

/// Throws HDF5's last error on this thread as a DataError: "{file}: {object}: {what}: {HDF5's message}".
[[noreturn]] void throw_hdf5_error(const std::filesystem::path& file, std::string_view object,
                                   std::string_view what);

/// The HDF5 type of `dtype`, in memory and in files.
Hdf5Id hdf5_type(DType dtype);

/// An object with attributes: a file (its root group) or a dataset. Strings are UTF-8 of fixed length, at
/// most 64000 bytes (h5py: np.bytes_). Reading an attribute that is missing or of another kind throws a
/// DataError.
class Hdf5Object {
 public:
  const std::filesystem::path& file_path() const { return file_path_; }
  const std::string& name() const { return name_; }
  std::int64_t id() const { return id_.get(); }

  void write_attribute(const std::string& attribute, const std::string& value);
  void write_attribute(const std::string& attribute, std::int64_t value);
  void write_attribute(const std::string& attribute, double value);
  bool has_attribute(const std::string& attribute) const;
  std::string string_attribute(const std::string& attribute) const;
  std::int64_t i64_attribute(const std::string& attribute) const;
  double f64_attribute(const std::string& attribute) const;

 protected:
  Hdf5Object(std::filesystem::path file_path, std::string name, Hdf5Id id)
      : file_path_(std::move(file_path)), name_(std::move(name)), id_(std::move(id)) {}

  std::filesystem::path file_path_;
  std::string name_;
  Hdf5Id id_;
};

class Hdf5Dataset : public Hdf5Object {
 public:
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }

  /// Reads or writes the whole dataset; the tensor must have its dtype and shape. Throws a DefectError
  /// otherwise, a DataError if HDF5 fails.
  void read(const Tensor& out) const;
  void write(const Tensor& values);
  /// Reads or writes elements [begin, begin + out.elements()) of a one-dim dataset; the range must be inside
  /// it.
  void read(std::int64_t begin, const Tensor& out) const;
  void write(std::int64_t begin, const Tensor& values);
  /// File offset of a contiguous dataset's first byte. Throws a DataError if no space is allocated yet.
  std::int64_t address() const;

 private:
  friend class Hdf5File;
  Hdf5Dataset(std::filesystem::path file_path, std::string name, Hdf5Id id);
  void check_stored(std::uint64_t file_bytes) const;
  void check_tensor(const Tensor& tensor, std::int64_t begin) const;
  void transfer_range(bool writing, std::int64_t begin, const Tensor& tensor) const;

  DType dtype_ = DType::f32;
  Shape shape_;
};

class Hdf5File : public Hdf5Object {
 public:
  /// Creates a file for writing; an existing one is truncated.
  static Hdf5File create(const std::filesystem::path& path);
  /// Opens a file for reading. Throws a DataError if it is missing, not an HDF5 file or truncated.
  static Hdf5File open(const std::filesystem::path& path);

  /// Flushes, closes and syncs the file. Without it the destructor closes the file and errors are lost.
  /// Invalidates the file's datasets.
  void close();

  bool has(const std::string& object) const;
  /// Creates a contiguous dataset; missing groups on its path ("/model/…") are created.
  Hdf5Dataset create_dataset(const std::string& name, DType dtype, const Shape& shape);
  /// The same, but its space in the file is allocated immediately: the caller writes the data at address().
  Hdf5Dataset reserve_dataset(const std::string& name, DType dtype, const Shape& shape);
  /// Opens a dataset. Throws a DataError if it is missing, has an unsupported dtype or rank, is larger than
  /// the file (so a caller may allocate by shape()), is compressed, or has its data in another file.
  Hdf5Dataset dataset(const std::string& name) const;

 private:
  using Hdf5Object::Hdf5Object;
  Hdf5Dataset create(const std::string& name, DType dtype, const Shape& shape, bool reserve);
  void require_hard_links(const std::string& object) const;
};

}  // namespace foretoken
