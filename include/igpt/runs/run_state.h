#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace igpt::runs {

enum class State : uint8_t { training, finished, stopped, failed };

/// "training", "finished", "stopped" or "failed".
std::string name_of(State state);

/// What a training says of itself in state.json of its run's folder: `training` when it begins, and how it ended.
struct StateRecord {
  State state = State::training;
  int64_t step = 0;         ///< updates done
  std::string reason = {};  ///< of a stop or failure, one line
};

/// Throws igpt::Error when it cannot be written.
void write_state(const std::filesystem::path& run, const StateRecord& record);

/// Nothing where there is no such file, as in the folders of older runs, or where it cannot be read.
std::optional<StateRecord> read_state(const std::filesystem::path& run);

}  // namespace igpt::runs
