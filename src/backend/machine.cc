#include "igpt/backend/machine.h"

#include <ATen/DeviceAccelerator.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt::backend {
namespace {

// Bytes of a line of /proc/meminfo, proc_meminfo(5); 0 where it has none.
int64_t meminfo(const std::string& wanted) {
  std::ifstream file("/proc/meminfo");
  for (std::string name, rest; file >> name && std::getline(file, rest);)
    if (name == wanted) return std::strtoll(rest.c_str(), nullptr, 10) * 1024;
  return 0;
}

int64_t cores_of_affinity() {
  for (int most = CPU_SETSIZE; most <= 1 << 20; most *= 2) {  // too small a set is an error, not a part
    cpu_set_t* set = CPU_ALLOC(most);
    if (!set) break;
    const bool known = sched_getaffinity(0, CPU_ALLOC_SIZE(most), set) == 0;
    const int64_t count = known ? CPU_COUNT_S(CPU_ALLOC_SIZE(most), set) : 0;
    CPU_FREE(set);
    if (known) return count;
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

// The processors that a control group's quota is worth; infinite without one. Version 2 has both numbers in cpu.max
// ("max 100000" is none), version 1 a file for each.
double quota_of(const std::string& folder) {
  double quota = 0, period = 0;
  if (std::ifstream(folder + "/cpu.max") >> quota >> period && period > 0) return quota / period;
  if (std::ifstream(folder + "/cpu.cfs_quota_us") >> quota && std::ifstream(folder + "/cpu.cfs_period_us") >> period)
    if (quota > 0 && period > 0) return quota / period;
  return HUGE_VAL;
}

// Of this process's groups and all that they lie in, as far as they are mounted here: cgroups(7).
double quota_of_groups() {
  double least = HUGE_VAL;
  std::ifstream groups("/proc/self/cgroup");  // 0::/user.slice, or 4:cpu,cpuacct:/docker/1a2b
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string number, controllers, path;
    std::getline(fields, number, ':') && std::getline(fields, controllers, ':') && std::getline(fields, path);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::string root = controllers.empty() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    for (; !path.empty(); path.resize(path.front() == '/' ? path.rfind('/') : 0))
      least = std::min(least, quota_of(root + path));
    least = std::min(least, quota_of(root));
  }
  return least;
}

}  // namespace

int64_t usable_cores() {
  const auto affinity = static_cast<double>(cores_of_affinity());
  return static_cast<int64_t>(std::max(1.0, std::min(affinity, std::ceil(quota_of_groups()))));
}

void expect_threads(int64_t count) {
  std::vector<std::thread> threads;
  std::atomic<bool> done{false};
  const auto end = [&] {
    done = true;
    done.notify_all();
    for (auto& thread : threads) thread.join();
  };
  try {
    while (std::cmp_less(threads.size() + 1, count)) threads.emplace_back([&] { done.wait(false); });
    end();
  } catch (const std::system_error&) {
    const size_t started = threads.size() + 1;
    end();
    throw Error("only " + std::to_string(started) + " of " + std::to_string(count) + " threads can be started: " +
                why_no_thread() + "; raise it, stop other programs, or use --threads " + std::to_string(started));
  }
}

int64_t available_memory(c10::Device device) {
  if (!device.is_cpu()) {
    try {
      return static_cast<int64_t>(at::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).first);
    } catch (const c10::Error&) {
      return 0;
    }
  }
  return meminfo("MemAvailable:");
}

int64_t most_memory(c10::Device device) {
  const int64_t available = available_memory(device);
  if (!device.is_cpu() || available == 0) return available;
  const auto most = static_cast<uint64_t>(available + meminfo("SwapFree:"));
  return static_cast<int64_t>(std::min(most, memory_limit().value_or(most)));
}

}  // namespace igpt::backend
