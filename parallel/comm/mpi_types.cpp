#include "parallel/comm/mpi_types.h"

#include "runtime/error.h"

namespace foretoken {

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::u8:
    case DType::f8e4m3:
    case DType::f8e5m2:
      return MPI_UINT8_T;
    case DType::bf16:
    case DType::u16:
      return MPI_UINT16_T;
    case DType::u32:
      return MPI_UINT32_T;
  }
  throw DefectError("mpi: no type for dtype {}", static_cast<int>(dtype));
}

MpiExtent::MpiExtent(DType dtype, std::int64_t elements, std::int64_t per_call) : type_(mpi_type(dtype)) {
  if (elements <= per_call) {
    count_ = static_cast<int>(elements);
    return;
  }
  MPI_Datatype chunk = MPI_DATATYPE_NULL, chunks = MPI_DATATYPE_NULL;
  MPI_Type_contiguous(static_cast<int>(per_call), type_, &chunk);
  MPI_Type_contiguous(static_cast<int>(elements / per_call), chunk, &chunks);
  const int lengths[] = {1, static_cast<int>(elements % per_call)};
  const MPI_Aint offsets[] = {
      0, static_cast<MPI_Aint>((elements - elements % per_call) * static_cast<std::int64_t>(size_of(dtype)))};
  const MPI_Datatype types[] = {chunks, type_};
  MPI_Type_create_struct(2, lengths, offsets, types, &type_);
  MPI_Type_commit(&type_);
  MPI_Type_free(&chunk);
  MPI_Type_free(&chunks);
  derived_ = true;
}

MpiExtent::~MpiExtent() {
  if (derived_) MPI_Type_free(&type_);
}

}  // namespace foretoken
