#pragma once
// MPI datatypes and counts for tensor elements.

#include <cstdint>

#include <mpi.h>

#include "runtime/tensor.h"

namespace foretoken {

/// bf16 maps to an integer type with its bits: MPI can only move it, not reduce it.
MPI_Datatype mpi_type(DType dtype);

/// The MPI count and type of `elements` elements: a count of a basic type, or one element of a derived type
/// that contains all. MPI keeps a derived type until the communications started with it are complete.
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
