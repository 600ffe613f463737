#include "io/checkpoint/checkpoint_view.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include <hdf5.h>

#include "io/hdf5/hdf5.h"
#include "io/hdf5/hdf5_detail.h"

namespace foretoken {

using detail::dataspace;
using detail::must;
using detail::property_list;

namespace {

/// Appends the boxes that make up `range`, a range of flat row-major indices over dims `dim` and later. The
/// earlier dims of `slab` are already fixed.
void cut(const Shape& shape, int dim, Range range, Hyperslab slab, std::vector<Hyperslab>& out) {
  if (range.empty()) return;
  const std::size_t d = static_cast<std::size_t>(dim);
  std::int64_t row = 1;
  for (int inner = dim + 1; inner < shape.rank(); ++inner) row *= shape[inner];
  const auto part = [&](std::int64_t index, Range inside) {  // within one row
    slab.start[d] = index;
    slab.count[d] = 1;
    cut(shape, dim + 1, inside, slab, out);
  };

  std::int64_t first = range.begin / row;
  const std::int64_t last = range.end / row;
  if (range.begin % row != 0) {
    part(first, {range.begin % row, std::min(row, range.end - first * row)});
    ++first;
  }
  if (first < last) {
    slab.start[d] = first;
    slab.count[d] = last - first;
    for (int inner = dim + 1; inner < shape.rank(); ++inner) {
      slab.start[static_cast<std::size_t>(inner)] = 0;
      slab.count[static_cast<std::size_t>(inner)] = shape[inner];
    }
    slab.elements = (last - first) * row;
    out.push_back(slab);
  }
  if (first <= last) part(last, {0, range.end - last * row});
}

std::array<hsize_t, Shape::max_rank> sizes(const std::array<std::int64_t, Shape::max_rank>& values) {
  std::array<hsize_t, Shape::max_rank> converted{};
  std::copy(values.begin(), values.end(), converted.begin());
  return converted;
}

void map_piece(const Hdf5Id& creation, const PieceRecord& piece) {
  const auto map = [&](const Hdf5Id& target, const Hdf5Id& source) {
    must(H5Pset_virtual(creation.get(), target.get(), piece.file.c_str(), piece.dataset.c_str(),
                        source.get()) >= 0,
         "cannot map a piece into its tensor");
  };
  if (piece.range.size() == piece.shape.elements()) {
    const Hdf5Id all = dataspace(piece.shape);
    map(all, all);
    return;
  }
  hsize_t taken = 0;
  for (const Hyperslab& slab : hyperslabs(piece.shape, piece.range)) {
    const Hdf5Id target = dataspace(piece.shape);
    const Hdf5Id source = dataspace({piece.range.size()});
    const hsize_t count = static_cast<hsize_t>(slab.elements);
    must(H5Sselect_hyperslab(target.get(), H5S_SELECT_SET, sizes(slab.start).data(), nullptr,
                             sizes(slab.count).data(), nullptr) >= 0 &&
             H5Sselect_hyperslab(source.get(), H5S_SELECT_SET, &taken, nullptr, &count, nullptr) >= 0,
         "cannot select a piece");
    map(target, source);
    taken += count;
  }
}

void set_fill_value(const Hdf5Id& creation, DType dtype) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  if (dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16)
    must(H5Pset_fill_value(creation.get(), H5T_NATIVE_FLOAT, &nan) >= 0, "cannot set the fill value");
}

}  // namespace

std::vector<Hyperslab> hyperslabs(const Shape& shape, const Range& range) {
  std::vector<Hyperslab> slabs;
  cut(shape, 0, range, {}, slabs);
  return slabs;
}

void write_view(const std::filesystem::path& file, std::span<const PieceRecord> pieces) {
  std::map<std::pair<std::string, std::string>, std::vector<const PieceRecord*>> tensors;
  for (const PieceRecord& piece : pieces) tensors[{piece.kind, piece.tensor}].push_back(&piece);

  Hdf5File view = Hdf5File::create(file);
  const Hdf5Id groups = property_list(H5P_LINK_CREATE);
  must(H5Pset_create_intermediate_group(groups.get(), 1) >= 0, "cannot enable the creation of groups");
  for (const auto& [key, parts] : tensors) {
    const PieceRecord& any = *parts.front();
    const Hdf5Id creation = property_list(H5P_DATASET_CREATE);
    set_fill_value(creation, any.dtype);
    for (const PieceRecord* piece : parts) map_piece(creation, *piece);
    const std::string name = "/" + key.first + "/" + key.second;
    const Hdf5Id type = hdf5_type(any.dtype);
    const Hdf5Id space = dataspace(any.shape);
    const Hdf5Id dataset(H5Dcreate2(view.id(), name.c_str(), type.get(), space.get(), groups.get(),
                                    creation.get(), H5P_DEFAULT),
                         H5Dclose);
    if (dataset.get() < 0) throw_hdf5_error(file, name, "cannot be created");
  }
  view.close();
}

}  // namespace foretoken
