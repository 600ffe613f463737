// Positions and labels of axis ticks.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "io/report/chart.h"

namespace foretoken {

std::vector<double> round_ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double wanted = (high - low) / count;
  const double decade = std::pow(10, std::floor(std::log10(wanted)));
  double step = 10 * decade;
  for (const double factor : {5.0, 2.5, 2.0, 1.0})
    if (factor * decade >= wanted * 0.999) step = factor * decade;
  std::vector<double> ticks;
  const double slack = 1e-9 * step;
  for (double n = std::ceil((low - slack) / step); n * step <= high + slack; ++n) ticks.push_back(n * step);
  return ticks;
}

std::vector<double> logarithmic_ticks(double low, double high) {
  std::vector<double> ticks;
  for (const std::vector<double>& mantissas :
       {std::vector<double>{1, 2, 5},
        {1, 1.5, 2, 3, 4, 5, 7},
        {1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9}}) {
    ticks.clear();
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
      for (const double mantissa : mantissas)
        if (mantissa * decade >= low * (1 - 1e-9) && mantissa * decade <= high * (1 + 1e-9))
          ticks.push_back(mantissa * decade);
    if (ticks.size() >= 4) break;
  }
  return ticks.size() < 2 ? round_ticks(low, high, 5) : ticks;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  const auto with_unit = [&](double unit, const char* name) {
    return fmt::format("{}{}", fmt::format("{:.4g}", value / unit), name);
  };
  if (size >= 0.99995e9) return with_unit(1e9, " G");
  if (size >= 0.99995e6) return with_unit(1e6, " M");
  if (size >= 1e4) return with_unit(1e3, " K");
  if (size < 1e-12) return "0";
  constexpr std::size_t longest = 6;  // longer labels do not fit beside an axis
  std::string text = fmt::format("{:.4g}", value);
  if (size >= 1e-3 && text.size() <= longest) return text;
  if (size >= 1) return text;
  const double exponent = std::floor(std::log10(size) + 1e-9);
  return fmt::format("{:.4g}e{}", value / std::pow(10, exponent), exponent);
}

}  // namespace foretoken
