#include "igpt/formats/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"

namespace igpt::formats {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;     // for zlib: gzip header and trailer, largest window
constexpr uint64_t kMaximumExpansion = 1032;  // of deflate: zlib.net/zlib_tech.html
constexpr size_t kChunk = size_t{64} * 1024;

class GzipReader {
 public:
  explicit GzipReader(InputFile& file) : file_(file), name_(file.path().string()) {
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw Error(name_ + ": not enough memory to decompress");
  }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;
  ~GzipReader() { inflateEnd(&stream_); }

  std::string read(uint64_t max_bytes) {
    std::string content;
    // Reserved memory that nothing is written to costs nothing; growing by doubling would hold the content twice.
    const bool is_small = file_.size() <= max_bytes / kMaximumExpansion;
    content.reserve(is_small ? file_.size() * kMaximumExpansion : max_bytes);
    do read_member(content, max_bytes);
    while (another_member_follows());
    return content;
  }

 private:
  // Whether there is compressed data left to look at.
  bool fill() {
    if (stream_.avail_in > 0) return true;
    stream_.next_in = compressed_.data();
    stream_.avail_in = static_cast<uInt>(file_.read(std::as_writable_bytes(std::span(compressed_))));
    return stream_.avail_in > 0;
  }

  void read_member(std::string& content, uint64_t max_bytes) {
    inflateReset(&stream_);
    for (int status = Z_OK; status != Z_STREAM_END;) {
      // zlib may hold output that did not fit before, and needs no input then.
      const bool has_input = fill();
      stream_.next_out = inflated_.data();
      stream_.avail_out = static_cast<uInt>(inflated_.size());
      status = inflate(&stream_, Z_NO_FLUSH);
      const size_t made = inflated_.size() - stream_.avail_out;
      if (!has_input && made == 0)
        throw InputError(name_ + ": the compressed data is cut short; copy or download it again");
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        throw InputError(name_ + ": the compressed data is damaged (" + (stream_.msg ? stream_.msg : zError(status)) +
                         "); copy or download it again");
      if (made > max_bytes - content.size())
        throw InputError(name_ + ": decompresses to more than the " + std::to_string(max_bytes) +
                         " bytes that it can have; is it the right file?");
      content.append(reinterpret_cast<const char*>(inflated_.data()), made);
    }
  }

  // Zeros up to the end of the file, which tapes and block devices leave behind the last member, are accepted, as by
  // gzip -t.
  bool another_member_follows() {
    if (!fill()) return false;
    const bool padded = *stream_.next_in == 0;
    for (; padded && fill(); stream_.avail_in = 0)
      if (!std::ranges::all_of(std::span(stream_.next_in, stream_.avail_in), [](Bytef byte) { return byte == 0; }))
        refuse_what_follows();
    if (!padded && *stream_.next_in != 0x1f) refuse_what_follows();
    return !padded;
  }

  [[noreturn]] void refuse_what_follows() const {
    throw InputError(name_ + ": something that is not gzip follows the compressed data; copy or download it again");
  }

  InputFile& file_;
  std::string name_;
  z_stream stream_ = {};
  std::vector<Bytef> compressed_ = std::vector<Bytef>(kChunk), inflated_ = std::vector<Bytef>(kChunk);
};

}  // namespace

std::string read_plain_or_gzip(const std::filesystem::path& path, uint64_t max_bytes) {
  InputFile file(path);
  std::string start(2, '\0');
  if (file.read(std::as_writable_bytes(std::span(start))) < 2 || start != "\x1f\x8b") return read_file(path, max_bytes);
  file = InputFile(path);
  return GzipReader(file).read(max_bytes);
}

}  // namespace igpt::formats
