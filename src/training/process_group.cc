#include "igpt/training/process_group.h"

#include <c10/util/Logging.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#ifdef IGPT_GLOO
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif

namespace igpt::training {
namespace {

using torch::Tensor;
using Store = c10::intrusive_ptr<c10d::Store>;
using Group = c10::intrusive_ptr<c10d::Backend>;
using Clock = std::chrono::steady_clock;

constexpr auto kLookAgain = std::chrono::milliseconds(20);
constexpr auto kNoteAfter = std::chrono::seconds(1);
constexpr std::chrono::milliseconds kConnectingAtOnce = std::chrono::seconds(10);  // between looks for a stop signal

// Defined in src/backend/cuda/nccl.cc: a new reference.
using MakeNcclGroup = c10d::Backend* (*)(const Store&, int rank, int size, int64_t milliseconds);

// c10::Error and others append where they were thrown, in lines of their own.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

std::string place_of(const DistributedContext& launch) {
  return launch.address + ":" + std::to_string(launch.port);
}

std::vector<uint8_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

// "rank 2", "ranks 1 to 3 and 7"
std::string ranks_in_words(const std::vector<int64_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += (i == 0 ? "" : last + 1 == ranks.size() ? " and " : ", ") + std::to_string(ranks[i]);
    if (last > i) text += (last == i + 1 ? " and " : " to ") + std::to_string(ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string how_to_run_alone(const DistributedContext& launch) {
  return launch.alone.empty() ? "" : "; if this process was to train alone, type: " + launch.alone;
}

std::string random_name() {
  std::random_device random;
  return std::to_string(random()) + std::to_string(random());
}

// The ranks find each other in a store that may live on from an earlier start of the same job, with that start's keys.
// Rank 0 opens a session under a new name; the others greet it with a word of their own, and are in it once rank 0 has
// repeated that word.
class Meeting {
 public:
  Meeting(Store store, const DistributedContext& launch, const std::function<void()>& waiting,
          const std::function<void(const std::string&)>& note)
      : store_(std::move(store)),
        launch_(launch),
        waiting_(waiting),
        note_(note),
        deadline_(Clock::now() + std::chrono::seconds(launch.timeout)) {}

  /// The session's name, the same on every rank.
  std::string session() { return launch_.rank == 0 ? open() : join(); }

 private:
  std::string open() {
    const std::string session = random_name();
    store_->set("session", bytes(session));
    const auto opened = Clock::now();
    bool told = !note_;
    std::vector<int64_t> missing;
    for (int64_t rank = 1; rank < launch_.size; ++rank) missing.push_back(rank);
    while (!missing.empty()) {
      std::erase_if(missing, [&](int64_t rank) {
        const auto key = session + "/" + std::to_string(rank);
        if (!store_->check({key})) return false;
        store_->set(key + "/heard", store_->get(key));
        return true;
      });
      if (missing.empty()) break;
      if (!told && Clock::now() > opened + kNoteAfter) {
        note_("rank 0 of " + std::to_string(launch_.size) + " waits for " + ranks_in_words(missing) + " at " +
              place_of(launch_) + how_to_run_alone(launch_));
        told = true;
      }
      pause([&] { return "rank " + list(missing); });
    }
    return session;
  }

  std::string join() {
    const auto word = bytes(random_name());
    for (std::string session;; pause([] { return std::string("rank 0"); })) {
      if (!store_->check({"session"})) continue;
      const auto present = store_->get("session");
      const std::string name(present.begin(), present.end());
      const auto key = name + "/" + std::to_string(launch_.rank);
      if (name != session) store_->set(key, word);
      session = name;
      if (store_->check({key + "/heard"}) && store_->get(key + "/heard") == word) return session;
    }
  }

  template <class Missing>
  void pause(const Missing& missing) {
    if (waiting_) waiting_();
    if (Clock::now() > deadline_)
      throw Error("rank " + std::to_string(launch_.rank) + " of " + std::to_string(launch_.size) + ": " + missing() +
                  " did not come to " + place_of(launch_) + " within " + std::to_string(launch_.timeout) +
                  " s; look at its messages and at the network, or allow more with --rank_timeout" +
                  how_to_run_alone(launch_));
    std::this_thread::sleep_for(kLookAgain);
  }

  static std::string list(const std::vector<int64_t>& ranks) {
    constexpr size_t kMost = 8;
    std::string text;
    for (size_t i = 0; i < ranks.size() && i < kMost; ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
    return text + (ranks.size() > kMost ? ", ..." : "");
  }

  Store store_;
  const DistributedContext& launch_;
  const std::function<void()>& waiting_;
  const std::function<void(const std::string&)>& note_;
  Clock::time_point deadline_;
};

Store open_store(const DistributedContext& launch, const std::function<void()>& waiting,
                 const std::function<void(const std::string&)>& note) {
  const std::chrono::milliseconds timeout = std::chrono::seconds(launch.timeout);
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = launch.rank == 0 && !launch.store_is_up;
  options.waitWorkers = false;
  options.timeout = std::min<std::chrono::milliseconds>(kNoteAfter, timeout);
  bool told = !note;
  for (const auto deadline = Clock::now() + timeout;;) {
    try {
      auto store = c10::make_intrusive<c10d::TCPStore>(launch.address, options);
      store->setTimeout(timeout);
      return store;
    } catch (const std::exception& error) {
      if (waiting) waiting();
      if (!options.isServer && Clock::now() < deadline) {
        if (!std::exchange(told, true))
          note("rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.size) + " cannot reach " +
               place_of(launch) + " yet and tries again" + how_to_run_alone(launch));
        options.timeout = std::min(kConnectingAtOnce, timeout);
        continue;
      }
      throw Error("rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.size) + ": cannot " +
                  (options.isServer ? "listen at " : "reach ") + place_of(launch) + " (" + first_line(error) +
                  "); check MASTER_ADDR and MASTER_PORT" + how_to_run_alone(launch));
    }
  }
}

Group make_gloo_group(const Store& store, const DistributedContext& launch) {
#ifdef IGPT_GLOO
  const auto timeout = std::chrono::seconds(launch.timeout);
  // Between machines on the interface of the host's name, or GLOO_SOCKET_IFNAME, as in PyTorch.
  const bool loopback = launch.one_machine && !std::getenv("GLOO_SOCKET_IFNAME");
  auto options = loopback ? c10d::ProcessGroupGloo::Options::create(timeout)
                          : c10d::ProcessGroupGloo::Options::create_default(timeout);
  if (loopback) options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, static_cast<int>(launch.rank),
                                                     static_cast<int>(launch.size), options);
#else
  (void)store, (void)launch;
  throw Error("built without Gloo, which several processes on the CPU need; install libgloo-dev and build again");
#endif
}

Group make_nccl_group(const Store& store, const DistributedContext& launch) {
  void* library = dlopen("libigpt_cuda.so", RTLD_NOW | RTLD_NOLOAD);  // is there: the device is a CUDA device
  const auto make = library ? reinterpret_cast<MakeNcclGroup>(dlsym(library, "igpt_cuda_process_group")) : nullptr;
  if (!make) throw Error("built without NCCL (nccl.h), which several processes on CUDA devices need; use --device cpu");
  return Group::reclaim(
      make(store, static_cast<int>(launch.rank), static_cast<int>(launch.size), launch.timeout * 1000));
}

}  // namespace

struct ProcessGroup::Connection {
  Store store;
  Group backend;
  c10::intrusive_ptr<c10d::Work> last;  // its error may be known only later

  template <class Call>
  void wait(const DistributedContext& launch, const Call& call) {
    try {
      last = call();
      last->wait();
    } catch (const std::exception& error) {
      lost(launch, error);
    }
  }

  [[noreturn]] static void lost(const DistributedContext& launch, const std::exception& error) {
    throw RanksLost("rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.size) +
                    ": another process of this training has ended or does not answer, see its message (" +
                    first_line(error) + ")");
  }
};

ProcessGroup::ProcessGroup(const DistributedContext& launch, c10::Device device, const std::function<void()>& waiting,
                           const std::function<void(const std::string&)>& note)
    : launch_(launch), device_(device) {
  if (alone()) return;
  // What went wrong is said once, by what is thrown.
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  connection_ = std::make_unique<Connection>();
  const auto store = open_store(launch, waiting, note);
  try {
    const auto meeting = c10::make_intrusive<c10d::PrefixStore>("igpt", store);
    connection_->store =
        c10::make_intrusive<c10d::PrefixStore>(Meeting(meeting, launch, waiting, note).session(), meeting);
    connection_->backend =
        device.is_cuda() ? make_nccl_group(connection_->store, launch) : make_gloo_group(connection_->store, launch);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Connection::lost(launch, error);
  }
}

ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::sum(Tensor values) {
  if (alone()) return;
  std::vector<Tensor> tensors{std::move(values)};
  connection_->wait(launch_, [&] { return connection_->backend->allreduce(tensors); });
}

std::vector<double> ProcessGroup::sum(const std::vector<double>& values) {
  if (alone()) return values;
  auto total = torch::tensor(values, torch::kFloat64).to(device_);
  sum(total);
  total = total.cpu();
  check();
  return {total.data_ptr<double>(), total.data_ptr<double>() + total.numel()};
}

std::vector<int64_t> ProcessGroup::gather(int64_t value) {
  if (alone()) return {value};
  auto all = torch::zeros({size()}, torch::kInt64);
  all[rank()] = value;
  all = all.to(device_);
  sum(all);
  all = all.cpu();
  check();
  return {all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel()};
}

std::string ProcessGroup::ranks_unlike_first(int64_t value) {
  const auto values = gather(value);
  std::string text;
  for (size_t rank = 0; rank < values.size(); ++rank)
    if (values[rank] != values[0]) text += (text.empty() ? "rank " : ", ") + std::to_string(rank);
  return text;
}

void ProcessGroup::copy_from_first(Tensor values) {
  if (alone()) return;
  std::vector<Tensor> tensors{std::move(values)};
  connection_->wait(launch_, [&] { return connection_->backend->broadcast(tensors); });
}

std::string ProcessGroup::from_first(const std::string& text) {
  if (alone()) return text;
  const int64_t length = gather(static_cast<int64_t>(text.size()))[0];
  if (length == 0) return "";
  auto characters = torch::zeros({length}, torch::kUInt8);
  if (is_first()) std::copy(text.begin(), text.end(), characters.data_ptr<uint8_t>());
  characters = characters.to(device_);
  copy_from_first(characters);
  characters = characters.cpu();
  check();
  return {characters.data_ptr<uint8_t>(), characters.data_ptr<uint8_t>() + length};
}

void ProcessGroup::check() {
  if (alone() || !connection_->last) return;
  try {
    (void)connection_->last->isCompleted();  // looks for errors, and keeps one that it finds
    if (const auto error = connection_->last->exception()) std::rethrow_exception(error);
  } catch (const std::exception& error) {
    Connection::lost(launch_, error);
  }
}

int64_t fingerprint(const std::vector<Tensor>& tensors) {
  constexpr int64_t kAtOnce = 1 << 20, kFactor = 1000003;
  const torch::NoGradGuard no_grad;
  uint64_t result = 0;
  for (const auto& tensor : tensors) {
    auto bits = tensor.detach().flatten();
    if (bits.is_floating_point()) bits = bits.view(torch::kInt32);
    auto sum = torch::zeros({}, torch::TensorOptions(bits.device()).dtype(torch::kInt64));
    for (int64_t start = 0; start < bits.numel(); start += kAtOnce) {
      const auto part = bits.narrow(0, start, std::min(kAtOnce, bits.numel() - start)).to(torch::kInt64);
      sum = sum * kFactor + (part * (2 * torch::arange(part.numel(), part.options()) + 1)).sum();
    }
    result =
        (result * kFactor + static_cast<uint64_t>(bits.numel())) * kFactor + static_cast<uint64_t>(sum.item<int64_t>());
  }
  return static_cast<int64_t>(result);
}

}  // namespace igpt::training
