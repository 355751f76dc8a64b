#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "igpt/error.h"

/// How a struct of options declares its fields. Beside the struct lies a function
///
///     template <class Visit> void for_each_field(TrainOptions& options, const Visit& visit) {
///       visit("steps", options.steps, "optimizer updates", Attributes{.group = "Training"}, at_least(1));
///       ...
///
/// that calls visit(name, field, help, attributes, allowed...) for each. The command line, configuration files,
/// hparams.yaml, the hyper-parameters in checkpoints, what a resumed run keeps, and what ranks compare follow from it.
///
/// Types of fields: bool, int64_t, double (finite), std::string, std::optional<int64_t|double>.
namespace igpt {

/// Which values a field may have: in words, for help and errors, and as a test.
template <class T>
struct Allowed {
  std::string words;  ///< "at least 1", "cosine, linear or constant"
  std::function<bool(const T&)> test;
  std::vector<T> choices = {};  ///< all of them, where they can be listed
};

/// What a program must know of a field beside its name, type and range.
struct Attributes {
  const char* group = nullptr;          ///< the heading in --help; null: see cli::Options::group
  const char* short_name = "";          ///< "n" of -n
  bool of_run = true;                   ///< stored with the run; otherwise it concerns one start of the program only
  bool free_on_resume = false;          ///< may be given anew when the run is resumed
  bool free_per_rank = false;           ///< may differ between the processes that train together
  bool in_every_checkpoint = false;     ///< the original's checkpoints have it as well
  const char* shown_default = nullptr;  ///< what help says in place of the field's value
  const char* placeholder = nullptr;    ///< what help shows for a text as the option's value: "FILE"
};

/// A field's value where its type is known at run time only. Nothing: an optional without a value.
using FieldValue = std::variant<std::monostate, bool, int64_t, double, std::string>;
using FieldValues = std::vector<std::pair<std::string, FieldValue>>;

/// The shortest text from which the same value is read back.
inline std::string to_text(const FieldValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::monostate>) {
          return "";
        } else if constexpr (std::is_same_v<T, bool>) {
          return v ? "true" : "false";
        } else if constexpr (std::is_same_v<T, std::string>) {
          return v;
        } else {
          char buffer[32];
          return {buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr};
        }
      },
      value);
}

template <class T>
FieldValue value_of(const T& field) {
  return field;
}
template <class T>
FieldValue value_of(const std::optional<T>& field) {
  return field ? FieldValue(*field) : FieldValue();
}

/// The declared fields of `options` whose attributes `wanted` accepts, optionals without a value left out.
template <class Options>
FieldValues values_of(
    Options options, const std::function<bool(const Attributes&)>& wanted = [](const Attributes&) { return true; }) {
  FieldValues values;
  for_each_field(options,
                 [&](const char* name, auto& field, const char*, const Attributes& attributes, const auto&...) {
                   FieldValue value = value_of(field);
                   if (wanted(attributes) && value.index() > 0) values.emplace_back(name, std::move(value));
                 });
  return values;
}

/// Throws igpt::UsageError "must be at least 1".
template <class T>
void require_allowed(const T& value, const Allowed<T>& allowed) {
  if (allowed.test && !allowed.test(value)) throw UsageError("must be " + allowed.words);
}

/// Throws igpt::UsageError "--steps 0: must be at least 1" on the first field whose value is not allowed.
template <class Options>
void check_fields(Options options) {
  for_each_field(options, [](const char* name, auto& field, const char*, const Attributes&, const auto&... allowed) {
    try {
      (require_allowed(field, allowed), ...);
    } catch (const UsageError& error) {
      throw UsageError("--" + std::string(name) + " " + to_text(value_of(field)) + ": " + error.what());
    }
  });
}

/// "a, b or c"
inline std::string in_words(const std::vector<std::string>& names, const std::string& conjunction = "or") {
  std::string words = names.front();
  for (size_t i = 1; i < names.size(); ++i)
    words += (i + 1 == names.size() ? " " + conjunction + " " : ", ") + names[i];
  return words;
}

inline Allowed<int64_t> at_least(int64_t minimum) {
  return {"at least " + to_text(minimum), [=](int64_t value) { return value >= minimum; }};
}
inline Allowed<int64_t> between(int64_t minimum, int64_t maximum) {
  return {to_text(minimum) + " to " + to_text(maximum),
          [=](int64_t value) { return minimum <= value && value <= maximum; }};
}
inline Allowed<double> greater_than(double bound) {
  return {"greater than " + to_text(bound), [=](double value) { return value > bound; }};
}
inline Allowed<double> within(double minimum, double maximum) {
  return {to_text(minimum) + " to " + to_text(maximum),
          [=](double value) { return minimum <= value && value <= maximum; }};
}
inline Allowed<double> half_open(double minimum, double bound) {
  return {"at least " + to_text(minimum) + " and less than " + to_text(bound),
          [=](double value) { return minimum <= value && value < bound; }};
}
inline Allowed<double> strictly_between(double low, double high) {
  return {"greater than " + to_text(low) + " and less than " + to_text(high),
          [=](double value) { return low < value && value < high; }};
}
inline Allowed<double> not_negative() {
  return {"at least 0", [](double value) { return value >= 0; }};
}
inline Allowed<std::string> one_of(std::vector<std::string> choices) {
  const auto is_one = [choices](const std::string& value) {
    return std::find(choices.begin(), choices.end(), value) != choices.end();
  };
  return {in_words(choices), is_one, std::move(choices)};
}
inline Allowed<int64_t> any_seed() {
  return {"0 to 9223372036854775807", [](int64_t value) { return value >= 0; }};
}

}  // namespace igpt
