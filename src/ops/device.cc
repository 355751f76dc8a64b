#include "igpt/ops/device.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/limits.h"
#include "src/ops/attention_kernels.h"
#include "src/ops/device_kernels.h"

namespace igpt::ops {
namespace {

// Tries one device: null when it works, else the cause in words. Defined in src/ops/cuda/probe.cu.
using CudaProbe = const char* (*)(int device);

// How many CUDA devices the driver has, none without a driver; asked of it alone: loading LibTorch's CUDA libraries
// costs every start 0.1 s and 350 MB.
int driver_devices() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return 0;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  int devices = 0;
  return init && count && init(0) == 0 && count(&devices) == 0 ? devices : 0;
}

// Loads libigpt_cuda and with it libtorch_cuda, which registers itself; before anything asks at::hasCUDA(), which
// keeps its first answer.
std::string probe_cuda(int index) {
#ifdef IGPT_CUDA_VERSION
  static void* library = dlopen("libigpt_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) return std::string("its library cannot be loaded: ") + dlerror();
  const auto probe = reinterpret_cast<CudaProbe>(dlsym(library, "igpt_cuda_probe"));
  const auto attention = static_cast<const AttentionKernels*>(dlsym(library, "igpt_cuda_attention"));
  const auto models = static_cast<const DeviceKernels*>(dlsym(library, "igpt_cuda_models"));
  if (!probe || !attention || !models) return "libigpt_cuda.so is of another version; build and install again";
  if (const char* cause = probe(index)) return cause;
  static auto* const checked = new CheckedAttention(*attention);  // for as long as there may be graphs with it
  use_attention_kernels(c10::kCUDA, checked);
  static TriedKernels tried(*models);
  use_device_kernels(c10::kCUDA, &tried);
  return "";
#else
  (void)index;
  return "this program was built without CUDA; build it where a CUDA compiler (nvcc) is";
#endif
}

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

// libgomp ends the process where it cannot start its threads: they are tried first.
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

}  // namespace

int64_t usable_cores() {
  const auto affinity = static_cast<double>(cores_of_affinity());
  return static_cast<int64_t>(std::max(1.0, std::min(affinity, std::ceil(quota_of_groups()))));
}

c10::Device choose_device(const std::string& text, std::string* why_not_cuda, int64_t local_rank) {
  if (text == "cpu") return c10::kCPU;
  const bool automatic = text == "auto";
  int index = 0;
  if (text.starts_with("cuda:")) {
    const auto [end, error] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (error != std::errc() || end != text.data() + text.size() || index < 0 || index > 127)
      throw UsageError("--device " + text + ": must be auto, cpu, cuda or cuda:N");
  } else if (!automatic && text != "cuda") {
    throw UsageError("--device " + text + ": must be auto, cpu, cuda or cuda:N");
  }
  const int devices = driver_devices();
  if (devices == 0) {
    if (automatic) return c10::kCPU;
    throw Error("--device " + text + ": no CUDA device or driver found; use --device cpu, or check nvidia-smi");
  }
  if ((automatic || text == "cuda") && devices > 1) {  // a launcher may also show each process one device only
    if (local_rank >= devices)
      throw Error("--device " + text + ": this machine has " + std::to_string(devices) +
                  " CUDA devices for more processes; start one for each device, or use --device cpu");
    index = static_cast<int>(local_rank);
  }
  const std::string cause = probe_cuda(index);
  if (cause.empty()) return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
  if (!automatic) throw Error("--device " + text + ": " + cause + "; --device cpu works everywhere");
  if (why_not_cuda) *why_not_cuda = cause;
  return c10::kCPU;
}

c10::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks, int64_t local_rank) {
  const int64_t wanted = threads > 0 ? threads : at::get_num_threads(), cores = usable_cores();
  if (threads > cores && hooks.note)
    hooks.note("--threads " + std::to_string(threads) + ": this process may use " + std::to_string(cores) +
               (cores == 1 ? " core" : " cores") + ", computing with as many threads");
  expect_threads(std::min(wanted, cores));
  if (threads > 0 || wanted > cores) at::set_num_threads(static_cast<int>(std::min(wanted, cores)));
  at::parallel_for(0, at::get_num_threads(), 1, [](int64_t, int64_t) {});  // starts them: later is too late to fail
  std::string why_not_cuda;
  const auto device = choose_device(text, &why_not_cuda, local_rank);
  if (!why_not_cuda.empty() && hooks.note) hooks.note("computing on the CPU: " + why_not_cuda);
  if (hooks.detail)
    hooks.detail("device " + device.str() + ", " + std::to_string(at::get_num_threads()) + " CPU threads");
  return device;
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

std::string cuda_build() {
#ifdef IGPT_CUDA_VERSION
  return "CUDA " IGPT_CUDA_VERSION;
#else
  return "no CUDA";
#endif
}

}  // namespace igpt::ops
