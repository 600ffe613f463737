#pragma once
// Internals shared by the HDF5 layer's own files. Other files use io/hdf5/hdf5.h.

#include <string>
#include <string_view>

#include <hdf5.h>

#include "io/hdf5/hdf5.h"

namespace foretoken::detail {

/// Turns off HDF5's printing on the calling thread, and its exit handler; every public call starts with it.
void silence_thread();
/// The innermost message of HDF5's error stack, which describes the cause; clears the stack.
std::string last_message();
/// Throws a DefectError with HDF5's message unless `done`.
void must(bool done, const char* what);
/// Owns an identifier that HDF5 returned for `object`; throws "{file}: {object}: {what}" if the call failed.
Hdf5Id own(std::int64_t id, Hdf5Id::Close close, const Hdf5Object& object, std::string_view what);
Hdf5Id property_list(std::int64_t list_class);
Hdf5Id dataspace(const Shape& shape);

}  // namespace foretoken::detail
