#pragma once
// Medians of measurements.

#include <vector>

namespace foretoken {

/// The value in the middle; the mean of both if the number of values is even. Needs at least one value.
double median(std::vector<double> values);

/// If the number of values is even: the lower or upper of the two in the middle. A rank that is compared with
/// a median of itself and one other is compared with the better of both, so that the slower one is found.
double lower_median(std::vector<double> values);
double upper_median(std::vector<double> values);

}  // namespace foretoken
