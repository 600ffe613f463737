#pragma once
// How MPI is told of elements.

#include <cstdint>

#include <mpi.h>

#include "runtime/tensor.h"

namespace foretoken {

/// bf16 as the integers of its bits: MPI can move it alone.
MPI_Datatype mpi_type(DType dtype);

/// What MPI is told of `elements` elements: a count of a basic type, or one element of a derived type that
/// holds them all. MPI keeps a derived type until the communications started with it are complete.
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
