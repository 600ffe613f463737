// Distances of the charts' colours, as people with normal and with deficient colour vision see them.
#include "io/report/palette.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

using Triple = std::array<double, 3>;
using Matrix = std::array<Triple, 3>;

/// Normal vision and three deficiencies, as matrices in linear RGB: Machado, Oliveira, Fernandes 2009,
/// severity 1.
constexpr std::array<Matrix, 4> visions{{
    {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}},
    {{{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}},
    {{{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}},
    {{{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}},
}};

Triple product(const Matrix& matrix, const Triple& vector) {
  Triple out{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) out[i] += matrix[i][j] * vector[j];
  return out;
}

/// "#rrggbb" in linear RGB.
Triple linear(const std::string& hex) {
  Triple out{};
  for (std::size_t i = 0; i < 3; ++i) {
    const double c = std::stoi(hex.substr(1 + 2 * i, 2), nullptr, 16) / 255.0;
    out[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  return out;
}

Triple lab(Triple rgb) {
  for (double& c : rgb) c = std::clamp(c, 0.0, 1.0);
  const Matrix to_xyz{{{0.4124564, 0.3575761, 0.1804375},
                       {0.2126729, 0.7151522, 0.0721750},
                       {0.0193339, 0.1191920, 0.9503041}}};
  const Triple xyz = product(to_xyz, rgb);
  const auto f = [](double t) { return t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116; };
  const double x = f(xyz[0] / 0.95047), y = f(xyz[1]), z = f(xyz[2] / 1.08883);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

/// CIEDE2000, as in Sharma, Wu, Dalal 2005.
double difference(Triple one, Triple two) {
  constexpr double degree = std::numbers::pi / 180;
  const auto to_7 = [](double c) { return std::sqrt(std::pow(c, 7) / (std::pow(c, 7) + std::pow(25.0, 7))); };
  const double mean = (std::hypot(one[1], one[2]) + std::hypot(two[1], two[2])) / 2;
  const double g = 1.5 - 0.5 * to_7(mean);
  const auto hue = [](const Triple& c) {
    const double angle = std::atan2(c[2], c[1]) / degree;
    return angle < 0 ? angle + 360 : angle;
  };
  one[1] *= g;
  two[1] *= g;
  const double c1 = std::hypot(one[1], one[2]), c2 = std::hypot(two[1], two[2]), h1 = hue(one), h2 = hue(two);
  double dh = h2 - h1, h = (h1 + h2) / 2;
  if (c1 * c2 == 0) {
    dh = 0;
    h = h1 + h2;
  } else if (std::abs(dh) > 180) {
    dh += dh > 0 ? -360 : 360;
    h += h1 + h2 < 360 ? 180 : -180;
  }
  const double dl = two[0] - one[0], dc = c2 - c1, c = (c1 + c2) / 2, l = (one[0] + two[0]) / 2 - 50;
  const double dh_chord = 2 * std::sqrt(c1 * c2) * std::sin(dh / 2 * degree);
  const double t = 1 - 0.17 * std::cos((h - 30) * degree) + 0.24 * std::cos(2 * h * degree) +
                   0.32 * std::cos((3 * h + 6) * degree) - 0.20 * std::cos((4 * h - 63) * degree);
  const double sl = 1 + 0.015 * l * l / std::sqrt(20 + l * l), sc = 1 + 0.045 * c, sh = 1 + 0.015 * c * t;
  const double turn = -2 * to_7(c) * std::sin(60 * std::exp(-std::pow((h - 275) / 25, 2)) * degree);
  return std::sqrt(std::pow(dl / sl, 2) + std::pow(dc / sc, 2) + std::pow(dh_chord / sh, 2) +
                   turn * dc / sc * dh_chord / sh);
}

double contrast(const std::string& one, const std::string& two) {
  const auto luminance = [](const std::string& hex) {
    const Triple c = linear(hex);
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] + 0.05;
  };
  const double a = luminance(one), b = luminance(two);
  return std::max(a, b) / std::min(a, b);
}

}  // namespace

TEST_CASE("the difference of colours is that of the published examples") {
  CHECK(difference({50, 2.6772, -79.7751}, {50, 0, -82.7485}) == Approx(2.0425).epsilon(1e-4));
  CHECK(difference({60.2574, -34.0099, 36.2677}, {60.4626, -34.1751, 39.4387}) ==
        Approx(1.2644).epsilon(1e-4));
  CHECK(difference({2.0776, 0.0795, -1.1350}, {0.9033, -0.0636, -0.5514}) == Approx(0.9082).epsilon(1e-4));
}

TEST_CASE("two series differ for every kind of colour vision, on light and on dark paper") {
  for (const auto colour : {&Colour::light, &Colour::dark})
    for (std::size_t vision = 0; vision < visions.size(); ++vision)
      for (std::size_t i = 0; i < series_colours.size(); ++i)
        for (std::size_t j = 0; j < i; ++j) {
          const std::string one = series_colours[i].*colour, two = series_colours[j].*colour;
          CAPTURE(one, two, vision);
          CHECK(difference(lab(product(visions[vision], linear(one))),
                           lab(product(visions[vision], linear(two)))) > 17);
        }
}

TEST_CASE("every series stands out from its paper") {
  for (const Colour& colour : series_colours) {
    CAPTURE(colour.light, colour.dark);
    CHECK(contrast(colour.light, light_paper) >= 3);
    CHECK(contrast(colour.dark, dark_paper) >= 3);
  }
}
