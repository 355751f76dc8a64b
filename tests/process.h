#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace igpt::testing {

/// How a program ended and what it said.
struct Ending {
  int exit_code = -1;  ///< -1 when a signal ended it
  int signal = 0;      ///< that signal, or 0
  std::string out, err;
  uint64_t peak_memory = 0;  ///< bytes that it had in memory at most, at least what its parent had when it started it
  double cpu_seconds = 0;    ///< of all its threads
};

/// The path of one of our programs: program("prepare_data").
inline std::string program(const std::string& name) {
  return std::string(IGPT_PROGRAMS) + "/" + name;
}

/// A running program whose output is kept in memory. Its standard input is empty; it starts with the present
/// environment plus `env`, in folder `cwd` if one is given. The destructor kills it.
class Process {
 public:
  explicit Process(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env = {},
                   const std::filesystem::path& cwd = {}) {
    // Prepared before fork: the child of a threaded program must not allocate.
    std::vector<std::string> environment;
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      if (!env.contains(text.substr(0, text.find('=')))) environment.push_back(text);
    }
    for (const auto& [name, value] : env) environment.push_back(name + "=" + value);
    std::vector<char*> arguments, variables;
    for (const std::string& text : argv) arguments.push_back(const_cast<char*>(text.c_str()));
    for (const std::string& text : environment) variables.push_back(const_cast<char*>(text.c_str()));
    arguments.push_back(nullptr);
    variables.push_back(nullptr);

    out_ = memfd_create("stdout", MFD_CLOEXEC);
    err_ = memfd_create("stderr", MFD_CLOEXEC);
    pid_ = fork();
    if (out_ < 0 || err_ < 0 || pid_ < 0) throw std::runtime_error(std::strerror(errno));
    if (pid_ == 0) {
      dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
      dup2(out_, STDOUT_FILENO);
      dup2(err_, STDERR_FILENO);
      if (!cwd.empty() && chdir(cwd.c_str()) != 0) _exit(126);
      execve(arguments[0], arguments.data(), variables.data());
      _exit(127);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (!reaped_) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
    ::close(err_);
  }

  pid_t pid() const { return pid_; }
  void signal(int number) const {
    if (!reaped_) ::kill(pid_, number);
  }

  /// What it wrote so far.
  std::string out() const { return content(out_); }
  std::string err() const { return content(err_); }

  bool running() {
    if (!reaped_ && wait4(pid_, &status_, WNOHANG, &usage_) == pid_) reaped_ = true;
    return !reaped_;
  }

  /// Waits for its end; kills it with SIGKILL when `patience` is over.
  Ending wait(std::chrono::milliseconds patience = std::chrono::seconds(120)) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (running()) {
      if (std::chrono::steady_clock::now() > deadline) ::kill(pid_, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Ending ending;
    if (WIFEXITED(status_)) ending.exit_code = WEXITSTATUS(status_);
    if (WIFSIGNALED(status_)) ending.signal = WTERMSIG(status_);
    ending.peak_memory = static_cast<uint64_t>(usage_.ru_maxrss) * 1024;
    for (const timeval& time : {usage_.ru_utime, usage_.ru_stime})
      ending.cpu_seconds += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    ending.out = out();
    ending.err = err();
    return ending;
  }

 private:
  static std::string content(int descriptor) {
    std::string text;
    char chunk[4096];
    for (ssize_t n; (n = pread(descriptor, chunk, sizeof chunk, static_cast<off_t>(text.size()))) > 0;)
      text.append(chunk, static_cast<size_t>(n));
    return text;
  }

  pid_t pid_ = -1;
  int out_ = -1, err_ = -1, status_ = 0;
  rusage usage_{};
  bool reaped_ = false;
};

/// Runs a program (argv[0] is its path) to its end.
inline Ending run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env = {},
                  const std::filesystem::path& cwd = {},
                  std::chrono::milliseconds patience = std::chrono::seconds(120)) {
  return Process(argv, env, cwd).wait(patience);
}

}  // namespace igpt::testing
