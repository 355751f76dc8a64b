#include "src/backend/verdict.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"

namespace igpt::backend {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr const char* kRight = "right";

struct Ended {
  int status = 0;  // as wait(2) gives it
  bool in_time = true;
  std::string output;  // what it wrote to stdout and stderr
};

// Runs a command to its end, or kills it when it is late or the user wants to stop.
Ended run_command(const std::vector<std::string>& command, const Hooks& hooks, std::chrono::seconds patience) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(std::string("cannot make a pipe: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int failure = ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  Ended ended;
  const auto deadline = steady_clock::now() + patience;
  const auto end = [&](bool kill) {
    if (kill) ::kill(child, SIGKILL);
    while (failure == 0 && ::waitpid(child, &ended.status, 0) < 0 && errno == EINTR) {
    }
    ::close(ends[0]);
  };
  char buffer[4096];
  for (ssize_t count = 1; failure == 0 && count != 0;) {
    if (const int signal = hooks.stop_signal ? hooks.stop_signal() : 0) {
      end(/*kill=*/true);
      throw Interrupted(signal);
    }
    ended.in_time = steady_clock::now() < deadline;
    if (!ended.in_time) break;
    pollfd readable{ends[0], POLLIN, 0};
    if (::poll(&readable, 1, /*timeout=*/100) <= 0) continue;
    count = ::read(ends[0], buffer, sizeof buffer);
    if (count > 0) ended.output.append(buffer, static_cast<size_t>(count));
  }
  end(/*kill=*/!ended.in_time);
  if (failure != 0) throw Error(command[0] + ": cannot be started: " + std::strerror(failure));
  return ended;
}

// The verdict in a file that begins with the identity.
std::optional<std::string> remembered(const fs::path& file, const DeviceIdentity& identity) {
  std::ifstream stream(file);
  std::string of, verdict;
  if (!std::getline(stream, of) || !std::getline(stream, verdict) || of != identity || verdict.empty()) return {};
  return verdict == kRight ? "" : verdict;
}

fs::path file_of(const DeviceIdentity& identity, const fs::path& folder) {
  return folder.empty() ? fs::path() : folder / ("check-" + data::sha256(identity).substr(0, 16) + ".txt");
}

}  // namespace

void remember_verdict(const DeviceIdentity& identity, const fs::path& folder, const std::optional<std::string>& fault) {
  if (folder.empty()) return;
  try {
    if (!fault) {
      fs::remove(file_of(identity, folder));
      return;
    }
    fs::create_directories(folder);
    formats::write_atomically(file_of(identity, folder), identity + "\n" + (fault->empty() ? kRight : *fault) + "\n");
  } catch (const std::exception&) {  // verdict() says so
  }
}

std::string verdict(const DeviceIdentity& identity, const fs::path& folder,
                    const std::vector<std::string>& check_command, const Hooks& hooks, std::chrono::seconds patience) {
  const fs::path file = file_of(identity, folder);
  if (const auto known = remembered(file, identity)) return *known;
  if (hooks.note) hooks.note("checking this device's kernels, once for each GPU, driver and build (run check)");
  Ended ended;
  try {
    ended = run_command(check_command, hooks, patience);
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    return std::string("their check could not be made: ") + error.what();
  }
  throw_if_stopped(hooks);
  const std::string first = ended.output.substr(0, ended.output.find('\n'));
  if (!ended.in_time) return "their check took longer than " + std::to_string(patience.count()) + " s";
  if (WIFSIGNALED(ended.status)) return std::string("their check ended with: ") + ::strsignal(WTERMSIG(ended.status));
  if (const auto found = remembered(file, identity)) return *found;
  if (WEXITSTATUS(ended.status) == 0) {
    if (hooks.note)
      hooks.note("the verdict cannot be kept" + (folder.empty() ? "" : " in " + folder.string()) +
                 ", so that every start checks again; let XDG_CACHE_HOME name a folder that can be written to");
    return "";
  }
  return first.empty() ? "their check could not be made" : "their check failed: " + first;
}

fs::path cache_folder() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache) return fs::path(cache) / "igpt";
  const char* const home = std::getenv("HOME");
  return home && *home ? fs::path(home) / ".cache" / "igpt" : fs::path();
}

}  // namespace igpt::backend
