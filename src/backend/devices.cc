#include "igpt/backend/devices.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "igpt/backend/machine.h"
#include "igpt/counted.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/ops/kernel_choice.h"
#include "src/backend/device_kernels.h"
#include "src/backend/verdict.h"
#include "src/model/device_attention.h"

namespace igpt::backend {
namespace {

namespace fs = std::filesystem;

// Tries one device: null when it works, else the cause in words. Defined in src/ops/cuda/probe.cu.
using CudaProbe = const char* (*)(int device);

// The CUDA driver, asked by itself: loading LibTorch's CUDA libraries costs every start 0.1 s and 350 MB. Nothing here
// makes a CUDA context.
class Driver {
 public:
  Driver() : library_(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (call<unsigned>("cuInit", 0) != 0 || call<int*>("cuDeviceGetCount", &devices_) != 0) devices_ = 0;
  }

  int devices() const { return devices_; }  ///< none without a driver

  /// Whether it runs what was built with a CUDA of `build`'s major version; a driver runs every minor version of its
  /// own.
  bool runs(const std::string& build) const { return version() / 1000 >= std::atoi(build.c_str()); }

  /// The device, the driver and this build's kernels, in one line.
  DeviceIdentity identity_of(int index) const {
    int device = 0, major = 0, minor = 0;
    char name[256] = {};
    call<int*, int>("cuDeviceGet", &device, index);
    call<char*, int, int>("cuDeviceGetName", name, sizeof name - 1, device);
    call<int*, int, int>("cuDeviceGetAttribute", &major, /*COMPUTE_CAPABILITY_MAJOR*/ 75, device);
    call<int*, int, int>("cuDeviceGetAttribute", &minor, /*COMPUTE_CAPABILITY_MINOR*/ 76, device);
    std::string module;
    std::getline(std::ifstream("/proc/driver/nvidia/version"), module);
    return std::string(name) + " sm_" + std::to_string(major * 10 + minor) + ", CUDA driver " +
           std::to_string(version()) + " " + module + ", " + build();
  }

 private:
  template <class... Arguments>
  int call(const char* name, Arguments... arguments) const {
    void* const function = library_ ? dlsym(library_, name) : nullptr;
    return function ? reinterpret_cast<int (*)(Arguments...)>(function)(arguments...) : -1;
  }

  int version() const {
    int version = 0;
    call<int*>("cuDriverGetVersion", &version);
    return version;
  }

  // LibTorch's version, and size and time of the libraries that hold the kernels and what starts them.
  static std::string build() {
    Dl_info info{};
    dladdr(reinterpret_cast<void*>(&use_device_kernels), &info);
    const auto folder = fs::path(info.dli_fname ? info.dli_fname : "").parent_path();
    std::string text = "LibTorch " TORCH_VERSION;
    for (const auto* const library : {"libigpt.so", "libigpt_cuda.so"}) {
      std::error_code error;
      text += std::string(", ") + library + " " + std::to_string(fs::file_size(folder / library, error)) +
              " bytes of " + std::to_string(fs::last_write_time(folder / library, error).time_since_epoch().count());
    }
    return text;
  }

  void* library_;
  int devices_ = 0;
};

// Why this build's kernels must not be used on the device; empty: they may.
std::string fault_of_kernels(const Driver& driver, int index, const Hooks& hooks) {
#ifdef IGPT_CUDA_VERSION
  if (!driver.runs(IGPT_CUDA_VERSION)) return "the driver is too old";  // probe_cuda says so, too
#else
  return "this build has none";
#endif
  std::error_code error;
  const auto run = fs::read_symlink("/proc/self/exe", error).parent_path() / "run";
  const std::string device = "cuda:" + std::to_string(index);
  return verdict(driver.identity_of(index), cache_folder(), {run, "check", "--device", device, "--quiet"}, hooks);
}

// Loads libigpt_cuda and with it libtorch_cuda, which registers itself; before anything asks at::hasCUDA(), which
// keeps its first answer.
std::string probe_cuda(int index, bool with_kernels) {
#ifdef IGPT_CUDA_VERSION
  static void* library = dlopen("libigpt_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) return std::string("its library cannot be loaded: ") + dlerror();
  const auto probe = reinterpret_cast<CudaProbe>(dlsym(library, "igpt_cuda_probe"));
  const auto attention = static_cast<const DeviceAttention*>(dlsym(library, "igpt_cuda_attention"));
  const auto models = static_cast<const DeviceKernels*>(dlsym(library, "igpt_cuda_models"));
  if (!probe || !attention || !models) return "libigpt_cuda.so is of another version; build and install again";
  if (const char* cause = probe(index)) return cause;
  use_device_attention(c10::kCUDA, with_kernels ? attention : nullptr);
  use_device_kernels(c10::kCUDA, with_kernels ? models : nullptr);
  return "";
#else
  (void)index, (void)with_kernels;
  return "this program was built without CUDA; build it where a CUDA compiler (nvcc) is";
#endif
}

// The device that `text` asks for. Of several processes on a machine each takes the CUDA device of its own number.
c10::Device choose_device(const std::string& text, const Hooks& hooks, int64_t local_rank, bool with_verdict) {
  if (text == "cpu") return c10::kCPU;
  const bool automatic = text == "auto";
  int index = 0;
  if (text.starts_with("cuda:")) {
    const auto [end, error] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (error != std::errc() || end != text.data() + text.size() || index < 0)
      throw UsageError("--device " + text + ": must be auto, cpu, cuda or cuda:N");
  } else if (!automatic && text != "cuda") {
    throw UsageError("--device " + text + ": must be auto, cpu, cuda or cuda:N");
  }
  const Driver driver;
  if (driver.devices() == 0) {
    if (automatic) return c10::kCPU;
    throw Error("--device " + text + ": no CUDA device or driver found; use --device cpu, or check nvidia-smi");
  }
  if ((automatic || text == "cuda") && driver.devices() > 1) {  // a launcher may also show each process one device only
    if (local_rank >= driver.devices())
      throw Error("--device " + text + ": this machine has " + std::to_string(driver.devices()) +
                  " CUDA devices for more processes; start one for each device, or use --device cpu");
    index = static_cast<int>(local_rank);
  }
  // The check runs before this process touches the device.
  const bool may_be_used = index < driver.devices();
  const bool asked = with_verdict && may_be_used && ops::kernel_choice() == ops::Kernels::fused;
  const std::string fault = asked ? fault_of_kernels(driver, index, hooks) : "";
  const std::string cause = probe_cuda(index, /*with_kernels=*/fault.empty());
  if (cause.empty()) {
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    if (!fault.empty() && hooks.note)
      hooks.note("this project's kernels are not used on " + device.str() + ": " + fault +
                 "; computing with LibTorch's (run check --device " + device.str() + " says more)");
    return device;
  }
  if (!automatic) throw Error("--device " + text + ": " + cause + "; --device cpu works everywhere");
  if (hooks.note) hooks.note("computing on the CPU: " + cause);
  return c10::kCPU;
}

std::string what_helps() {
  if (ops::kernel_choice() == ops::Kernels::fused)
    return "; IGPT_KERNELS=libtorch computes with LibTorch's operations alone";
  return "; nvidia-smi shows whether the device still works, and --device cpu does without it";
}

}  // namespace

void remember_check(c10::Device device, const std::optional<std::string>& fault) {
  if (device.is_cuda()) remember_verdict(Driver().identity_of(device.index()), cache_folder(), fault);
}

c10::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks, int64_t local_rank,
                           bool with_verdict) {
  const int64_t wanted = threads > 0 ? threads : at::get_num_threads(), cores = usable_cores();
  if (threads > cores && hooks.note)
    hooks.note("--threads " + std::to_string(threads) + ": this process may use " + std::to_string(cores) +
               (cores == 1 ? " core" : " cores") + ", computing with as many threads");
  expect_threads(std::min(wanted, cores));
  if (threads > 0 || wanted > cores) at::set_num_threads(static_cast<int>(std::min(wanted, cores)));
  at::parallel_for(0, at::get_num_threads(), 1, [](int64_t, int64_t) {});  // starts them: later is too late to fail
  const auto device = choose_device(text, hooks, local_rank, with_verdict);
  if (hooks.detail) hooks.detail("device " + device.str() + ", " + counted(at::get_num_threads(), "CPU thread"));
  return device;
}

void report_device_errors(const std::function<void()>& work) try { work(); } catch (const c10::OutOfMemoryError&) {
  throw;  // the programs say what takes less
} catch (const c10::Error& error) {
  const std::string text = error.what_without_backtrace(), cause = text.substr(0, text.find('\n'));
  if (cause.find("CUDA") == std::string::npos) throw;
  throw DeviceError(cause + what_helps());
} catch (const DeviceError& error) {
  throw DeviceError(error.what() + what_helps());
}

}  // namespace igpt::backend
