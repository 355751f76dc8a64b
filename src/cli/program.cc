#include "igpt/cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <limits>
#include <random>
#include <system_error>

#include "igpt/cli/signals.h"
#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt::cli {
namespace {

constexpr Attributes kOfThisStart{.of_run = false};

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= 3 && text.find_first_not_of("0123456789") == std::string::npos;
}

// Without one of its standard files, a program would give that descriptor to the next file that it opens, and print
// into it. The substitute for stdout cannot be written to, which flush_output notices.
void occupy_standard_files() {
  for (const int descriptor : {0, 1, 2})
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
      if (::open("/dev/null", descriptor == 2 ? O_WRONLY : O_RDONLY) < 0) ::_exit(1);
}

void complain(const std::string& name, std::string_view message) {
  const std::string line = single_line(name + ": " + std::string(message)) + "\n";
  (void)std::fputs(line.c_str(), stderr);
}

// c10::Error and others append a backtrace in further lines.
std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

bool current_folder_is_gone() {
  char path[4096];
  return ::getcwd(path, sizeof path) == nullptr && errno == ENOENT;
}

// Where the current folder is gone no relative path can work, so that is the cause to name.
void complain_of_failure(const std::string& name, std::string_view message) {
  if (!current_folder_is_gone()) return complain(name, message);
  complain(name, "the current folder has been deleted; change to one that exists (cd) and start again (" +
                     std::string(message) + ")");
}

// Messages for when there is no memory to make them. `name` is that of run_program.
struct LastWords {
  const std::string* name = nullptr;
  std::string out_of_memory, no_thread;
  std::terminate_handler otherwise = nullptr;
} last_words;

// What to say of an error that means that a limit of the system was reached; null for other errors. Where memory runs
// out, LibTorch throws an error of its own.
const std::string* limit_reached(const std::exception& error) {
  const std::string_view text = error.what();
  const bool of_libtorch =
      text.find("DefaultCPUAllocator") != text.npos || text.find("CUDA out of memory") != text.npos;
  if (of_libtorch || dynamic_cast<const std::bad_alloc*>(&error)) return &last_words.out_of_memory;
  const auto* system_error = dynamic_cast<const std::system_error*>(&error);
  if (!system_error || system_error->code() != std::errc::resource_unavailable_try_again) return nullptr;
  last_words.no_thread = "cannot start a thread: " + why_no_thread() + "; raise it or stop other programs";
  return &last_words.no_thread;
}

// The terminate handler: nobody can catch what LibTorch throws while it is loaded or in its own threads.
void end_with_last_words() {
  try {
    if (std::current_exception()) throw;
  } catch (const std::exception& error) {
    if (const std::string* const limit = limit_reached(error)) {
      for (const std::string_view part : {std::string_view(*last_words.name), std::string_view(": "),
                                          std::string_view(*limit), std::string_view("\n")})
        (void)!::write(STDERR_FILENO, part.data(), part.size());
      ::_exit(1);
    }
  } catch (...) {
  }
  last_words.otherwise();
}

int status_of(const std::string& name, const std::function<int()>& body) {
  try {
    return body();
  } catch (const UsageError& error) {
    complain(name, std::string(error.what()) + "; try `" + name + " --help`");
    return 2;
  } catch (const Interrupted& error) {
    complain(name, error.what());
    return 128 + error.signal;
  } catch (const Error& error) {
    complain_of_failure(name, error.what());
  } catch (const std::exception& error) {
    if (const std::string* const limit = limit_reached(error))
      complain(name, *limit);
    else
      complain_of_failure(name, first_line(error.what()));
  } catch (...) {
    complain(name, "failed for an unknown reason");
  }
  return 1;
}

bool flush_output() {
  std::cout.flush();
  return std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout.good();
}

}  // namespace

void add_device_options(Options& options, CommonOptions& common) {
  const Allowed<std::string> devices{"auto, cpu, cuda or cuda:N", [](const std::string& device) {
                                       if (device.starts_with("cuda:")) return is_number(device.substr(5));
                                       return device == "auto" || device == "cpu" || device == "cuda";
                                     }};
  options.add("device", common.device, "where to compute", devices,
              {.of_run = false, .placeholder = "auto|cpu|cuda|cuda:N"});
  // On the command line the original takes the index of a GPU, a text; in its configuration files their number, an
  // integer. Lightning distinguishes the two in this way.
  options.alias(
      "gpus", "device",
      [](const std::string& number) {
        if (!is_number(number)) throw UsageError("must be the number of one GPU; use --device cpu for none");
        return "cuda:" + number;
      },
      [](const std::string& count) -> std::string {
        if (count == "0") return "cpu";
        if (count == "1") return "cuda";
        throw UsageError(
            "must be 0 or 1 GPU for a process; for more leave it out and start one process for each "
            "(torchrun --no-python --nproc-per-node N run train ...)");
      });
  options.add("threads", common.threads, "CPU threads, 0 for all cores", between(0, 4096), kOfThisStart);
}

void add_seed_option(Options& options, CommonOptions& common) {
  options.add("seed", common.seed, "seed of all random numbers", any_seed(), {.shown_default = "drawn and printed"});
}

void add_log_options(Options& options, CommonOptions& common, const std::string& verbose) {
  options.add("q,quiet", common.quiet, "no progress, only results and errors", {}, kOfThisStart);
  options.add("v,verbose", common.verbose, verbose, {}, kOfThisStart);
}

void add_json_option(Options& options, CommonOptions& common) {
  options.add("json", common.json, "print the result as one JSON object", {}, kOfThisStart);
}

void note(const CommonOptions& common, std::string_view line) {
  if (!common.quiet) (void)std::fputs((single_line(line) + "\n").c_str(), stderr);
}

int64_t draw_seed() {
  return static_cast<int64_t>(std::random_device{}() >> 1);
}

int64_t seed_of(const CommonOptions& common) {
  return common.seed ? *common.seed : draw_seed();
}

std::vector<std::string> arguments_of(int argc, char** argv) {
  return argc > 1 ? std::vector<std::string>(argv + 1, argv + argc) : std::vector<std::string>();
}

int run_program(const std::string& name, const std::function<int()>& body, const std::string& less_memory) {
  occupy_standard_files();
  catch_stop_signals(name);
  (void)::signal(SIGXFSZ, SIG_IGN);  // writing beyond `ulimit -f` is then an error like any other
  (void)::signal(SIGPIPE, SIG_IGN);  // and so is a reader that has gone away: fatal for the result, not for the log
  last_words.name = &name;
  last_words.out_of_memory = "out of memory" + more_memory() + ", or " + less_memory;
  last_words.otherwise = std::set_terminate(end_with_last_words);
  int status = status_of(name, body);
  if (!flush_output() && status == 0) {
    complain(name, "cannot write the output: " + std::string(std::strerror(errno)));
    status = 1;
  }
  (void)std::fflush(stderr);
  ::_exit(status);
}

std::string single_line(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string line;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 control characters, to which terminals react too, are C2 80 to C2 9F in UTF-8.
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                    static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c == '\n')
      line += "\\n";
    else if (c == '\t')
      line += "\\t";
    else if (c < 0x20 || c == 0x7F || c1)
      line += std::string("\\x") + digits[c >> 4] + digits[c & 15];
    else
      line += text[i];
  }
  return line;
}

std::string version_text() {
#ifdef IGPT_CUDA_VERSION
  const std::string cuda = "yes, " IGPT_CUDA_VERSION;
#else
  const std::string cuda = "no";
#endif
  return "igpt " IGPT_VERSION "\nLibTorch " IGPT_LIBTORCH_VERSION "\nCUDA: " + cuda + "\n";
}

}  // namespace igpt::cli
