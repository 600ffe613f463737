#include "io/files/durable_file.h"
#include "io/files/file_reader.h"
#include "io/hdf5/hdf5_detail.h"
#include "runtime/error.h"

namespace foretoken {

using detail::dataspace;
using detail::must;
using detail::property_list;
using detail::silence_thread;

namespace {

constexpr std::uint64_t alignment_threshold = 1 << 20;
constexpr std::uint64_t alignment = 1 << 20;

Hdf5Id file_access() {
  Hdf5Id list = property_list(H5P_FILE_ACCESS);
  must(H5Pset_fclose_degree(list.get(), H5F_CLOSE_STRONG) >= 0, "cannot set the close degree");
  must(H5Pset_alignment(list.get(), alignment_threshold, alignment) >= 0, "cannot set the alignment");
  must(H5Pset_libver_bounds(list.get(), H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0, "cannot set the format");
  must(H5Pset_file_locking(list.get(), false, true) >= 0, "cannot turn file locks off");
  return list;
}

Hdf5Id dataset_access() {
  Hdf5Id list = property_list(H5P_DATASET_ACCESS);
  must(H5Pset_chunk_cache(list.get(), 0, 0, 0.0) >= 0, "cannot turn the chunk cache off");
  return list;
}

void require_thread_safety() {
  hbool_t safe = false;
  if (H5is_library_threadsafe(&safe) < 0 || !safe)
    throw UsageError(
        "this HDF5 library is not thread-safe: build with the serial libhdf5 of Debian or Ubuntu, "
        "or one configured with --enable-threadsafe");
}

}  // namespace

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  silence_thread();
  require_thread_safety();
  const Hdf5Id access = file_access();
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get());
  if (id < 0) throw_hdf5_error(path, "/", "cannot be created");
  return {path, "/", Hdf5Id(id, H5Fclose)};
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  silence_thread();
  require_thread_safety();
  const FileReader regular(path);  // HDF5 does not report why a path is unusable
  const Hdf5Id access = file_access();
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get());
  if (id < 0) throw_hdf5_error(path, "/", "cannot be opened as an HDF5 file");
  return {path, "/", Hdf5Id(id, H5Fclose)};
}

void Hdf5File::close() {
  silence_thread();
  if (H5Fflush(id(), H5F_SCOPE_LOCAL) < 0) throw_hdf5_error(file_path_, "/", "cannot be flushed");
  if (!id_.reset()) throw_hdf5_error(file_path_, "/", "cannot be closed");
  sync_to_disk(file_path_);
}

bool Hdf5File::has(const std::string& object) const {
  silence_thread();
  // H5Lexists requires every group on the path to exist.
  for (std::size_t slash = object.find('/', 1); slash != std::string::npos;
       slash = object.find('/', slash + 1))
    if (H5Lexists(id(), object.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
  return H5Lexists(id(), object.c_str(), H5P_DEFAULT) > 0;
}

Hdf5Dataset Hdf5File::create(const std::string& name, DType dtype, const Shape& shape, bool reserve) {
  silence_thread();
  const Hdf5Id groups = property_list(H5P_LINK_CREATE);
  must(H5Pset_create_intermediate_group(groups.get(), 1) >= 0, "cannot enable the creation of groups");
  const Hdf5Id creation = property_list(H5P_DATASET_CREATE);
  must(H5Pset_layout(creation.get(), H5D_CONTIGUOUS) >= 0, "cannot set the contiguous layout");
  must(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER) >= 0, "cannot turn fill values off");
  must(H5Pset_alloc_time(creation.get(), reserve ? H5D_ALLOC_TIME_EARLY : H5D_ALLOC_TIME_LATE) >= 0,
       "cannot set the time of allocation");
  const Hdf5Id type = hdf5_type(dtype);  // stays open: closing it would clear the message of a failure
  const Hdf5Id space = dataspace(shape);
  const hid_t dataset =
      H5Dcreate2(id(), name.c_str(), type.get(), space.get(), groups.get(), creation.get(), H5P_DEFAULT);
  if (dataset < 0) throw_hdf5_error(file_path_, name, "cannot be created");
  return {file_path_, name, Hdf5Id(dataset, H5Dclose)};
}

Hdf5Dataset Hdf5File::create_dataset(const std::string& name, DType dtype, const Shape& shape) {
  return create(name, dtype, shape, false);
}

Hdf5Dataset Hdf5File::reserve_dataset(const std::string& name, DType dtype, const Shape& shape) {
  return create(name, dtype, shape, true);
}

/// A soft or external link could lead to another file.
void Hdf5File::require_hard_links(const std::string& object) const {
  for (std::size_t end = object.find('/', 1);; end = object.find('/', end + 1)) {
    H5L_info_t link{};
    if (H5Lget_info(id(), object.substr(0, end).c_str(), &link, H5P_DEFAULT) < 0)
      throw_hdf5_error(file_path_, object, "its link cannot be read");
    if (link.type != H5L_TYPE_HARD)
      throw DataError("{}: {}: is a link, and links are not followed", file_path_.string(), object);
    if (end == std::string::npos) return;
  }
}

Hdf5Dataset Hdf5File::dataset(const std::string& name) const {
  silence_thread();
  if (!has(name)) throw DataError("{}: {}: there is no such dataset", file_path_.string(), name);
  require_hard_links(name);
  const Hdf5Id access = dataset_access();
  const hid_t dataset = H5Dopen2(id(), name.c_str(), access.get());
  if (dataset < 0) throw_hdf5_error(file_path_, name, "cannot be opened");
  Hdf5Dataset opened(file_path_, name, Hdf5Id(dataset, H5Dclose));
  hsize_t file_bytes = 0;
  if (H5Fget_filesize(id(), &file_bytes) < 0)
    throw_hdf5_error(file_path_, name, "cannot read the file's size");
  opened.check_stored(file_bytes);
  return opened;
}

}  // namespace foretoken
