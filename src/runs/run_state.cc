#include "igpt/runs/run_state.h"

#include <algorithm>
#include <array>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/json.h"
#include "igpt/formats/json_text.h"

namespace igpt::runs {
namespace {

constexpr const char* kFile = "state.json";
constexpr std::array kNames = {"training", "finished", "stopped", "failed"};  // in the order of State
constexpr size_t kLongestFile = size_t{64} << 10;

}  // namespace

std::string name_of(State state) {
  return kNames[static_cast<size_t>(state)];
}

void write_state(const std::filesystem::path& run, const StateRecord& record) {
  formats::OrderedJson json;
  json["state"] = name_of(record.state);
  json["step"] = record.step;
  if (!record.reason.empty()) json["reason"] = record.reason;
  formats::write_atomically(run / kFile, formats::json_text(json) + "\n");
}

std::optional<StateRecord> read_state(const std::filesystem::path& run) try {
  const auto json = formats::read_json(run / kFile, {.bytes = kLongestFile});
  const auto name = std::ranges::find(kNames, json["state"].text());
  if (name == kNames.end()) return {};
  StateRecord record{.state = static_cast<State>(name - kNames.begin()), .step = json["step"].whole(at_least(0))};
  if (const auto reason = json.find("reason")) record.reason = reason->text();
  return record;
} catch (const Error&) {
  return {};
}

}  // namespace igpt::runs
