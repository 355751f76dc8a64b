#include "igpt/ops/device.h"

#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <fstream>

#include "igpt/error.h"
#include "igpt/libtorch.h"
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

}  // namespace

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
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
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
  std::ifstream file("/proc/meminfo");  // proc_meminfo(5)
  for (std::string name, rest; file >> name && std::getline(file, rest);)
    if (name == "MemAvailable:") return std::strtoll(rest.c_str(), nullptr, 10) * 1024;
  return 0;
}

std::string cuda_build() {
#ifdef IGPT_CUDA_VERSION
  return "CUDA " IGPT_CUDA_VERSION;
#else
  return "no CUDA";
#endif
}

}  // namespace igpt::ops
