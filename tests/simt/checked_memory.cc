#include "simt/checked_memory.h"

#include <algorithm>

namespace igpt::simt {

CheckedMemory::CheckedMemory(std::string name, void* base, size_t count, size_t element_bytes)
    : name_(std::move(name)), base_(static_cast<char*>(base)), element_bytes_(element_bytes), elements_(count) {}

void CheckedMemory::fill() {
  std::fill(elements_.begin(), elements_.end(), Element{.written = true});
}

size_t CheckedMemory::unwritten() const {
  return static_cast<size_t>(std::count_if(elements_.begin(), elements_.end(), [](auto& e) { return !e.written; }));
}

std::string CheckedMemory::place(size_t element) const {
  return name_ + "[" + std::to_string(element) + "]";
}

size_t CheckedMemory::first_element(const void* at, size_t size, const char* what) const {
  const auto offset = static_cast<const char*>(at) - base_;
  if (offset < 0 || static_cast<size_t>(offset) + size > bytes())
    throw Fault(std::string(what) + " out of bounds: " + name_ + " at byte " + std::to_string(offset) + " of " +
                std::to_string(bytes()));
  if (static_cast<size_t>(offset) % size != 0)
    throw Fault("misaligned " + std::string(what) + " of " + std::to_string(size) + " bytes: " + name_ + " at byte " +
                std::to_string(offset));
  return static_cast<size_t>(offset) / element_bytes_;
}

void CheckedMemory::race(size_t element, const char* what, int block, int thread) const {
  throw Fault(
      std::string("race (") + what + "): " + place(element) + " with " +
      (thread < 0 ? "several threads" : "block " + std::to_string(block) + " thread " + std::to_string(thread)));
}

void CheckedMemory::check_against_writer(size_t element, const Access& by, const char* what) const {
  const Element& e = elements_[element];
  if (e.launch != by.launch || e.writer_thread < 0) return;
  if (e.writer_block == by.block) {
    if (e.writer_thread == by.thread || e.writer_block_barriers != by.block_barriers) return;
    if (e.writer_thread / 32 == by.warp() && e.writer_warp_barriers != by.warp_barriers) return;
  }
  race(element, what, e.writer_block, e.writer_thread);
}

void CheckedMemory::check_against_readers(size_t element, const Access& by) const {
  const Element& e = elements_[element];
  if (e.launch != by.launch || e.reader_warp < 0) return;
  const uint32_t others = e.reader_lanes & ~(1u << (by.thread % 32));
  if (e.several_blocks) race(element, "write after read", -1, -1);
  if (e.reader_block == by.block && e.reader_block_barriers != by.block_barriers) return;
  if (e.reader_block == by.block && e.several_warps) race(element, "write after read", -1, -1);
  const bool same_warp = e.reader_block == by.block && e.reader_warp == by.warp();
  if (same_warp && (e.reader_warp_barriers != by.warp_barriers || others == 0)) return;
  race(element, "write after read", e.reader_block,
       e.reader_warp * 32 + __builtin_ctz(same_warp ? others : e.reader_lanes));
}

void CheckedMemory::read(const void* at, size_t size, const Access* by) {
  const size_t first = first_element(at, size, "read");
  if (!by) return;
  for (size_t i = first; i < first + size / element_bytes_; ++i) {
    Element& e = elements_[i];
    if (!e.written) throw Fault("read of uninitialised " + place(i));
    if (e.launch != by->launch) e = {.written = true, .launch = by->launch};
    check_against_writer(i, *by, "read after write");
    const bool same_block = e.reader_block == by->block;
    e.several_blocks |= e.reader_block >= 0 && !same_block;
    if (!same_block || e.reader_block_barriers != by->block_barriers) {
      e.several_warps = false;
      e.reader_lanes = 0;
    } else if (e.reader_warp != by->warp()) {
      e.several_warps = true;
      e.reader_lanes = 0;
    } else if (e.reader_warp_barriers != by->warp_barriers) {
      e.reader_lanes = 0;
    }
    e.reader_block = by->block;
    e.reader_warp = by->warp();
    e.reader_block_barriers = by->block_barriers;
    e.reader_warp_barriers = by->warp_barriers;
    e.reader_lanes |= 1u << (by->thread % 32);
  }
}

void CheckedMemory::write(const void* at, size_t size, const Access* by) {
  const size_t first = first_element(at, size, "write");
  for (size_t i = first; i < first + size / element_bytes_; ++i) {
    Element& e = elements_[i];
    if (!by) {
      e.written = true;
      continue;
    }
    if (e.launch != by->launch) e = {.launch = by->launch};
    check_against_writer(i, *by, "write after write");
    check_against_readers(i, *by);
    e.written = true;
    e.writer_block = by->block;
    e.writer_thread = by->thread;
    e.writer_block_barriers = by->block_barriers;
    e.writer_warp_barriers = by->warp_barriers;
  }
}

}  // namespace igpt::simt
