// Gives the files and folders of the command line to a fuzz target, with any compiler: what libFuzzer does with
// -runs=0. Each input may take two seconds, and twice its size plus 64 MiB of memory. Mutations are libFuzzer's work
// (the preset `fuzz`, scripts/fuzz.sh).
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <string>
#include <vector>

#include "fuzz.h"

namespace {

namespace fs = std::filesystem;

constexpr int64_t allowed_memory = int64_t{64} << 20;
constexpr unsigned allowed_seconds = 2;

std::atomic<int64_t> allocated{0}, most_allocated{0};
std::string current;  // path of the input that runs now, for the signal handler

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* counted(void* memory) {
  if (!memory) throw std::bad_alloc();
  const int64_t now = allocated += static_cast<int64_t>(malloc_usable_size(memory));
  if (now > most_allocated) most_allocated = now;
  return memory;
}

void release(void* memory) noexcept {
  if (memory) allocated -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}
#endif

extern "C" void name_input(int signal_number) {
  constexpr char words[] = "\nfuzz: ended or took too long: ";
  if (::write(2, words, sizeof words - 1) > 0 && ::write(2, current.data(), current.size()) > 0) ::write(2, "\n", 1);
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

void run_one(const fs::path& path) {
  current = path;
  std::ifstream file(path, std::ios::binary);
  const std::string input(std::istreambuf_iterator<char>(file), {});
  const int64_t before = allocated;
  most_allocated = before;
  ::alarm(allowed_seconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  ::alarm(0);
  const int64_t taken = most_allocated - before;
  if (taken <= 2 * std::ssize(input) + allowed_memory) return;
  std::fprintf(stderr, "fuzz: %lld bytes of memory for an input of %zu\n", static_cast<long long>(taken), input.size());
  std::abort();
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(size_t size) {
  return counted(std::malloc(size));
}
void* operator new(size_t size, std::align_val_t alignment) {
  return counted(std::aligned_alloc(static_cast<size_t>(alignment), size));
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

int main(int argc, char** argv) {
  for (const int signal_number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM})
    ::signal(signal_number, name_input);
  std::vector<fs::path> files;
  for (const fs::path input : std::vector<std::string>(argv + 1, argv + argc)) {
    if (!fs::is_directory(input))
      files.push_back(input);
    else
      for (const auto& entry : fs::recursive_directory_iterator(input))
        if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const auto& file : files) run_one(file);
  std::printf("%zu inputs: each read or refused\n", files.size());
  return files.empty() ? 1 : 0;
}
