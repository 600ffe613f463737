#include <algorithm>
#include <cstring>

#include "io/hdf5/hdf5_detail.h"
#include "runtime/error.h"

namespace foretoken {

using detail::dataspace;
using detail::must;
using detail::own;
using detail::silence_thread;

namespace {

constexpr std::size_t longest_string = 64000;  // an attribute holds at most 64 KiB

/// Strings have fixed length: HDF5 reads beyond its buffers if the heap reference of a variable-length string
/// is damaged.
Hdf5Id string_type(std::size_t bytes) {
  const hid_t id = H5Tcopy(H5T_C_S1);
  must(id >= 0 && H5Tset_size(id, bytes) >= 0 && H5Tset_cset(id, H5T_CSET_UTF8) >= 0 &&
           H5Tset_strpad(id, H5T_STR_NULLPAD) >= 0,
       "cannot create the string type");
  return {id, H5Tclose};
}

void write_scalar(Hdf5Object& object, const std::string& attribute, std::int64_t type, const void* value) {
  silence_thread();
  const std::string what = fmt::format("attribute {} cannot be written", attribute);
  const Hdf5Id space = dataspace({});
  const Hdf5Id id =
      own(H5Acreate2(object.id(), attribute.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
          object, what);
  if (H5Awrite(id.get(), type, value) < 0) throw_hdf5_error(object.file_path(), object.name(), what);
}

struct StoredAttribute {
  Hdf5Id id;
  Hdf5Id type;
};

/// Opens a one-element attribute whose type is of class `expected`.
StoredAttribute open_scalar(const Hdf5Object& object, const std::string& attribute, H5T_class_t expected,
                            const char* kind) {
  silence_thread();
  const std::string what = fmt::format("attribute {} cannot be read", attribute);
  if (!object.has_attribute(attribute))
    throw DataError("{}: {}: attribute {} is missing", object.file_path().string(), object.name(), attribute);
  StoredAttribute stored;
  stored.id = own(H5Aopen(object.id(), attribute.c_str(), H5P_DEFAULT), H5Aclose, object, what);
  stored.type = own(H5Aget_type(stored.id.get()), H5Tclose, object, what);
  const Hdf5Id space = own(H5Aget_space(stored.id.get()), H5Sclose, object, what);
  if (H5Tget_class(stored.type.get()) != expected || H5Sget_simple_extent_npoints(space.get()) != 1)
    throw DataError("{}: {}: attribute {} is not {}", object.file_path().string(), object.name(), attribute,
                    kind);
  return stored;
}

template <class T>
T read_scalar(const Hdf5Object& object, const std::string& attribute, const StoredAttribute& stored,
              std::int64_t type) {
  T value{};
  if (H5Aread(stored.id.get(), type, &value) < 0)
    throw_hdf5_error(object.file_path(), object.name(),
                     fmt::format("attribute {} cannot be read", attribute));
  return value;
}

}  // namespace

void Hdf5Object::write_attribute(const std::string& attribute, const std::string& value) {
  if (value.size() > longest_string)
    throw DefectError("{}: {}: attribute {} of {} bytes, at most {} fit", file_path_.string(), name_,
                      attribute, value.size(), longest_string);
  // An empty string is stored as one NUL byte, because HDF5 has no empty type.
  write_scalar(*this, attribute, string_type(std::max<std::size_t>(1, value.size())).get(), value.c_str());
}

void Hdf5Object::write_attribute(const std::string& attribute, std::int64_t value) {
  write_scalar(*this, attribute, H5T_STD_I64LE, &value);
}

void Hdf5Object::write_attribute(const std::string& attribute, double value) {
  write_scalar(*this, attribute, H5T_IEEE_F64LE, &value);
}

bool Hdf5Object::has_attribute(const std::string& attribute) const {
  silence_thread();
  return H5Aexists(id(), attribute.c_str()) > 0;
}

std::string Hdf5Object::string_attribute(const std::string& attribute) const {
  const StoredAttribute stored = open_scalar(*this, attribute, H5T_STRING, "one string");
  const std::size_t size = H5Tget_size(stored.type.get());
  if (H5Tis_variable_str(stored.type.get()) != 0 || size > longest_string)
    throw DataError("{}: {}: attribute {} is not a string of fixed length up to {} bytes",
                    file_path_.string(), name_, attribute, longest_string);
  std::string value(size, '\0');
  if (H5Aread(stored.id.get(), stored.type.get(), value.data()) < 0)
    throw_hdf5_error(file_path_, name_, fmt::format("attribute {} cannot be read", attribute));
  value.resize(strnlen(value.data(), size));
  return value;
}

std::int64_t Hdf5Object::i64_attribute(const std::string& attribute) const {
  const StoredAttribute stored = open_scalar(*this, attribute, H5T_INTEGER, "one integer");
  return read_scalar<std::int64_t>(*this, attribute, stored, H5T_NATIVE_INT64);
}

double Hdf5Object::f64_attribute(const std::string& attribute) const {
  const StoredAttribute stored = open_scalar(*this, attribute, H5T_FLOAT, "one floating-point number");
  return read_scalar<double>(*this, attribute, stored, H5T_NATIVE_DOUBLE);
}

}  // namespace foretoken
