#pragma once
// Medians of measurements.

#include <vector>

namespace foretoken {

/// The value in the middle; the mean of both if the number of values is even. Needs at least one value.
double median(std::vector<double> values);

/// If the number of values is even: the lower or the upper of the two in the middle. A time is compared with
/// the lower median and a rate with the upper one, so that the slower one of two ranks differs from it.
double lower_median(std::vector<double> values);
double upper_median(std::vector<double> values);

}  // namespace foretoken
