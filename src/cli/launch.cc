#include "igpt/cli/launch.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "igpt/error.h"

namespace igpt::cli {
namespace {

constexpr int64_t kMostProcesses = 1 << 16;
constexpr int64_t kFirstPort = 20000, kPorts = 10000;  // for Slurm's jobs: below the ephemeral ports

class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  std::string text(const char* name) const {
    const char* value = environment_(name);
    return value ? value : "";
  }
  bool has(const char* name) const { return !text(name).empty(); }

  /// Throws igpt::UsageError when the variable is set to anything but a number from `smallest` to `largest`.
  std::optional<int64_t> number(const char* name, int64_t smallest, int64_t largest) const {
    const auto value = text(name);
    if (value.empty()) return {};
    int64_t result = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size() || result < smallest || result > largest)
      throw UsageError("environment variable " + std::string(name) + "=" + value + ": must be " +
                       std::to_string(smallest) + " to " + std::to_string(largest) +
                       "; unset it, or start with torchrun");
    return result;
  }

  int64_t required(const char* name, int64_t smallest, int64_t largest, const char* given) const {
    if (const auto value = number(name, smallest, largest)) return *value;
    throw UsageError("environment variable " + std::string(name) + " is not set, but " + given +
                     " is; start with torchrun, or unset both for one process");
  }

 private:
  const Environment& environment_;
};

// Identifies the parent process: host, process id, and start time (proc(5), field 22).
std::string identity_of_parent() {
  const auto parent = std::to_string(::getppid());
  std::ifstream file("/proc/" + parent + "/stat");
  const std::string stat{std::istreambuf_iterator<char>(file), {}};
  size_t place = stat.rfind(')');  // the end of the second field, which may contain any character
  for (int field = 2; field < 22 && place != std::string::npos; ++field) place = stat.find(' ', place + 1);
  if (place == std::string::npos) return "";
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + " " + parent + " " + stat.substr(place + 1, stat.find(' ', place + 1) - place - 1);
}

bool is_this_machine(const std::string& address) {
  return address == "localhost" || address.starts_with("127.") || address == "::1";
}

constexpr const char *kForget = "unset", *kSlurmStep = " SLURM_STEP_ID SLURM_STEPID";

bool is_slurm_step(const Variables& variables) {
  return variables.has("SLURM_STEP_ID") || variables.has("SLURM_STEPID");
}

DistributedContext of_torchrun(const Variables& variables) {
  DistributedContext launch;
  launch.size = variables.required("WORLD_SIZE", 1, kMostProcesses, "RANK");
  launch.rank = variables.required("RANK", 0, launch.size - 1, "WORLD_SIZE");
  launch.local_size = variables.number("LOCAL_WORLD_SIZE", 1, launch.size).value_or(1);
  launch.local_rank = variables.number("LOCAL_RANK", 0, launch.size - 1).value_or(0);
  launch.alone = kForget + std::string(" RANK WORLD_SIZE") + (is_slurm_step(variables) ? kSlurmStep : "");
  if (launch.size > 1) {
    launch.port = variables.required("MASTER_PORT", 1, 65535, "WORLD_SIZE");
    if (variables.has("MASTER_ADDR")) launch.address = variables.text("MASTER_ADDR");
  }
  launch.one_machine = launch.local_size == launch.size || is_this_machine(launch.address);
  launch.store_is_up = variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (!variables.has("TORCHELASTIC_RUN_ID")) return launch;
  launch.job = "torchrun " + variables.text("TORCHELASTIC_RUN_ID");
  if (launch.job == "torchrun none") launch.job += " " + launch.address + ":" + std::to_string(launch.port);
  launch.launcher = identity_of_parent();
  launch.restarts = variables.number("TORCHELASTIC_RESTART_COUNT", 0, INT32_MAX).value_or(0);
  return launch;
}

DistributedContext of_slurm(const Variables& variables) {
  DistributedContext launch;
  launch.alone = kForget + std::string(kSlurmStep);
  const char* tasks = variables.has("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  launch.size = variables.number(tasks, 1, kMostProcesses).value_or(1);
  launch.rank = variables.required("SLURM_PROCID", 0, launch.size - 1, tasks);
  launch.local_rank = variables.number("SLURM_LOCALID", 0, launch.size - 1).value_or(0);
  launch.one_machine = variables.text("SLURM_STEP_NUM_NODES") == "1";
  const int64_t job = variables.number("SLURM_JOB_ID", 0, INT64_MAX).value_or(0);
  if (variables.has("MASTER_ADDR"))
    launch.address = variables.text("MASTER_ADDR");
  else if (launch.size > 1 && !launch.one_machine)
    launch.address =
        first_node(variables.text(variables.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST"));
  if (launch.address.empty())
    throw UsageError(
        "neither MASTER_ADDR nor SLURM_JOB_NODELIST is set; name the machine of the first task in MASTER_ADDR, or, to "
        "train alone, type: " +
        launch.alone);
  launch.port = variables.number("MASTER_PORT", 1, 65535).value_or(kFirstPort + job % kPorts);
  launch.job = "slurm " + std::to_string(job);
  launch.restarts = variables.number("SLURM_RESTART_COUNT", 0, INT32_MAX).value_or(0);
  return launch;
}

}  // namespace

std::string first_node(const std::string& list) {
  const size_t end = list.find_first_of("[,");
  if (end == std::string::npos || list[end] == ',') return list.substr(0, end);
  const size_t close = list.find(']', end);
  if (close == std::string::npos) return "";
  const std::string number = list.substr(end + 1, list.find_first_of("-,]", end) - end - 1);
  return list.substr(0, end) + number + list.substr(close + 1, list.find(',', close) - close - 1);
}

DistributedContext read_launch(const Environment& environment) {
  const Variables variables(environment);
  if (variables.has("RANK") || variables.has("WORLD_SIZE")) return of_torchrun(variables);
  // A batch script has most of Slurm's variables too, but only srun sets those of a step.
  if (is_slurm_step(variables)) return of_slurm(variables);
  return {};
}

DistributedContext read_launch() {
  return read_launch([](const char* name) { return std::getenv(name); });
}

}  // namespace igpt::cli
