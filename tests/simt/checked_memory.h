#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace igpt::simt {

/// What a check of the emulator found.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A thread at the moment of an access, and what orders it after others.
struct Access {
  uint32_t launch = 0;
  int32_t block = 0, thread = 0;
  uint32_t block_barriers = 0, warp_barriers = 0;  ///< passed so far: by its block, by itself

  int32_t warp() const { return thread / 32; }
};

/// An array in shared or global memory. Remembers of each element who touched it last, and throws Fault on an access
/// out of bounds or misaligned, on a read of what nobody wrote, and on a race: two accesses of different threads in one
/// launch, at least one writing, with no barrier between them (of the block, or of the warp if both are of one).
class CheckedMemory {
 public:
  /// `name` for messages: "shared K".
  CheckedMemory(std::string name, void* base, size_t count, size_t element_bytes);

  const std::string& name() const { return name_; }
  char* base() const { return base_; }
  size_t bytes() const { return elements_.size() * element_bytes_; }

  /// `by` is null on the host's behalf, for which only bounds are checked.
  void read(const void* at, size_t bytes, const Access* by);
  void write(const void* at, size_t bytes, const Access* by);

  void fill();               ///< the host wrote all of it
  size_t unwritten() const;  ///< elements

 private:
  struct Element {
    bool written = false, several_warps = false, several_blocks = false;
    uint32_t launch = 0;
    int32_t writer_block = -1, writer_thread = -1, reader_block = -1, reader_warp = -1;
    uint32_t writer_block_barriers = 0, writer_warp_barriers = 0, reader_block_barriers = 0, reader_warp_barriers = 0;
    uint32_t reader_lanes = 0;  // of reader_warp, since its last barrier
  };

  std::string place(size_t element) const;
  size_t first_element(const void* at, size_t bytes, const char* what) const;
  void check_against_writer(size_t element, const Access& by, const char* what) const;
  void check_against_readers(size_t element, const Access& by) const;
  [[noreturn]] void race(size_t element, const char* what, int block, int thread) const;

  std::string name_;
  char* base_;
  size_t element_bytes_;
  std::vector<Element> elements_;
};

}  // namespace igpt::simt
