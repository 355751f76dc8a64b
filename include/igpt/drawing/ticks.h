#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace igpt::drawing {

/// Places for the numbers of an axis from `low` to `high`, both finite: at most `most` multiples of 1, 2 or 5 times a
/// power of ten.
std::vector<double> ticks(double low, double high, int64_t most);

/// The same for a logarithmic axis, 0 < low: powers of ten, if that makes too few also twice and five times these, and
/// on an axis that is too short for them ticks().
std::vector<double> log_ticks(double low, double high, int64_t most);

/// The numbers as an axis shows them, all with as many digits as one of them needs: "0.65", "0.70"; "5,000". Those of
/// a logarithmic axis have as many as each needs: "0.1", "1", "10".
std::vector<std::string> labels(const std::vector<double>& ticks);

/// With commas between thousands: 12,500.
std::string with_commas(int64_t number);

}  // namespace igpt::drawing
