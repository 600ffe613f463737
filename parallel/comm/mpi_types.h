#pragma once
// MPI datatypes and counts for tensor elements.

#include <cstdint>

#include <mpi.h>

#include "runtime/tensor.h"

namespace foretoken {

/// bf16 maps to an integer type of the same size: MPI can send it but not reduce it.
MPI_Datatype mpi_type(DType dtype);

/// The MPI count and type of `elements` elements: up to `per_call` elements are a count of the basic type,
/// more are one element of a derived type. MPI keeps a freed derived type until the communications started
/// with it are complete.
class MpiExtent {
 public:
  MpiExtent(DType dtype, std::int64_t elements, std::int64_t per_call);
  ~MpiExtent();
  MpiExtent(const MpiExtent&) = delete;
  MpiExtent& operator=(const MpiExtent&) = delete;

  MPI_Datatype type() const { return type_; }
  int count() const { return count_; }

 private:
  MPI_Datatype type_;
  int count_ = 1;
  bool derived_ = false;
};

}  // namespace foretoken
