// Runs a fuzz target without libFuzzer, with any compiler: the files and folders of the command line first, then
// mutations of them, always the same ones. Understands libFuzzer's options below and passes over its others:
//
//   -runs=N             mutations (100000)          -max_total_time=S   seconds for them (5)
//   -max_len=N          bytes of a mutation (65536) -seed=N             another sequence of mutations (1)
//   -timeout=S          seconds for one input (2)   -malloc_limit_mb=N  memory beyond twice the input (64)
//
// An input that ends the process, takes too long or too much memory is written to crash-<number> in the working folder.
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "fuzz.h"

namespace {

namespace fs = std::filesystem;

std::atomic<int64_t> allocated{0}, most_allocated{0};

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* counted(void* memory) noexcept {
  if (!memory) return nullptr;
  const int64_t now = allocated += static_cast<int64_t>(malloc_usable_size(memory));
  if (now > most_allocated) most_allocated = now;
  return memory;
}

void release(void* memory) noexcept {
  if (memory) allocated -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}
#endif

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(size_t size) {
  if (void* memory = counted(std::malloc(size))) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment) {
  if (void* memory = counted(std::aligned_alloc(static_cast<size_t>(alignment), size))) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  release(memory);
}
#endif

namespace {

struct Options {
  uint64_t runs = 100'000, max_total_time = 5, max_len = 65'536, seed = 1, timeout = 2, malloc_limit_mb = 64;
  std::vector<fs::path> inputs;
};

// What runs now, for the signal handler.
const char* current = nullptr;
size_t current_size = 0;

extern "C" void keep_input(int signal_number) {
  char name[] = "crash-0";
  for (char digit = '0'; digit <= '9'; ++digit) {
    name[sizeof name - 2] = digit;
    const int file = ::open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) continue;
    const bool kept = ::write(file, current, current_size) == static_cast<ssize_t>(current_size);
    constexpr char words[] = "\nfuzz: this input ended it (or took too long): ";
    if (kept && ::write(2, words, sizeof words - 1) > 0 && ::write(2, name, sizeof name - 1) > 0) ::write(2, "\n", 1);
    break;
  }
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

void run_one(const Options& options, const std::string& input) {
  current = input.data();
  current_size = input.size();
  ::alarm(static_cast<unsigned>(options.timeout));
  const int64_t before = allocated;
  most_allocated = before;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  ::alarm(0);
  const int64_t taken = most_allocated - before;
  if (taken > static_cast<int64_t>(2 * input.size() + (options.malloc_limit_mb << 20))) {
    std::fprintf(stderr, "fuzz: %lld bytes of memory for an input of %zu\n", static_cast<long long>(taken),
                 input.size());
    std::abort();
  }
}

// Changes inputs the way files break and attackers think.
class Mutator {
 public:
  explicit Mutator(const Options& options) : random_(options.seed), max_len_(options.max_len) {}

  std::string mutate(const std::vector<std::string>& corpus) {
    std::string input = corpus[below(corpus.size())];
    for (uint64_t changes = 1 + below(4); changes-- > 0;) change(input, corpus);
    if (input.size() > max_len_) input.resize(max_len_);
    return input;
  }

 private:
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

  // 0, -1, the ends of the signed types, and their neighbours.
  uint64_t interesting_number() {
    static constexpr std::array<int, 6> bits = {0, 7, 8, 16, 31, 63};
    const uint64_t power = uint64_t{1} << bits[below(bits.size())];
    return power - 1 + below(3) - (below(4) == 0 ? power : 0);
  }

  void write_number(std::string& input) {
    const uint64_t number = interesting_number();
    const size_t width = size_t{1} << below(4);
    std::string bytes(reinterpret_cast<const char*>(&number), width);
    if (below(4) == 0) std::ranges::reverse(bytes);
    const size_t at = below(input.size() + 1);
    input.replace(at, std::min(width, input.size() - at), bytes);
  }

  std::string piece_of(const std::string& input) {
    const size_t begin = below(input.size() + 1);
    return input.substr(begin, below(std::min<size_t>(input.size() - begin, 256) + 1));
  }

  void change(std::string& input, const std::vector<std::string>& corpus) {
    const size_t at = below(input.size() + 1);
    switch (below(8)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(below(256));
        break;
      case 2:
        input.erase(at, 1 + below(16));
        break;
      case 3:
        input.resize(at);
        break;
      case 4:
        input.insert(at, piece_of(input));
        break;
      case 5:
        input.insert(at, piece_of(corpus[below(corpus.size())]));
        break;
      case 6:
        for (uint64_t times = below(64); times-- > 0 && input.size() < max_len_;) input.insert(at, 1, input[at / 2]);
        break;
      default:
        write_number(input);
    }
  }

  std::mt19937_64 random_;
  size_t max_len_;
};

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Options parse(int argc, char** argv) {
  Options options;
  const std::pair<std::string_view, uint64_t*> numbers[] = {
      {"-runs=", &options.runs},       {"-max_total_time=", &options.max_total_time},
      {"-max_len=", &options.max_len}, {"-seed=", &options.seed},
      {"-timeout=", &options.timeout}, {"-malloc_limit_mb=", &options.malloc_limit_mb}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    for (const auto& [name, number] : numbers)
      if (argument.starts_with(name)) *number = std::strtoull(argv[i] + name.size(), nullptr, 10);
    if (!argument.starts_with('-')) options.inputs.emplace_back(argument);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  for (const int signal_number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM})
    ::signal(signal_number, keep_input);

  std::vector<fs::path> files;
  for (const auto& input : options.inputs) {
    if (!fs::is_directory(input))
      files.push_back(input);
    else
      for (const auto& entry : fs::recursive_directory_iterator(input))
        if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  if (files.empty()) {
    std::fprintf(stderr, "fuzz: no inputs\n");
    return 1;
  }
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::string content = content_of(file);
    run_one(options, content);
    if (content.size() <= options.max_len) corpus.push_back(std::move(content));
  }
  corpus.emplace_back();

  Mutator mutator(options);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.max_total_time);
  uint64_t runs = 0;
  for (; runs < options.runs && std::chrono::steady_clock::now() < end; ++runs)
    run_one(options, mutator.mutate(corpus));
  std::printf("%zu inputs and %llu mutations of them: each read or refused\n", files.size(),
              static_cast<unsigned long long>(runs));
}
