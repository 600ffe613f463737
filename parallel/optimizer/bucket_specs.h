#pragma once
// The tensors of a bucket as ranges of the flat parameter buffer.

#include "parallel/optimizer/shard_plan.h"

namespace foretoken {

/// Calls body(spec, range) for the intersection of each tensor of a bucket with a range of the flat buffer.
template <class Body>
void for_each_spec_in(const Parameters& parameters, const Bucket& bucket, const Range& range,
                      const Body& body) {
  for (int u = bucket.first_unit; u < bucket.end_unit; ++u)
    for (const ParameterSpec& spec : parameters.units()[static_cast<std::size_t>(u)].specs) {
      const Range common = intersection({spec.offset, spec.offset + spec.shape.elements()}, range);
      if (!common.empty()) body(spec, common);
    }
}

inline Range within(const ParameterSpec& spec, const Range& range) {
  return {range.begin - spec.offset, range.end - spec.offset};
}

inline Tensor slice(const Tensor& flat, const Range& range) {
  return flat.flat(range.begin, range.size());
}

}  // namespace foretoken
