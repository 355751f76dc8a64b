#pragma once

#include <concepts>
#include <limits>
#include <optional>

namespace igpt::formats {

// Arithmetic on numbers from files: nothing where the result does not fit.
template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <std::integral T>
constexpr std::optional<T> checked_multiply(T a, T b) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

}  // namespace igpt::formats
