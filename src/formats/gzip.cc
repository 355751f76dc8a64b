#include "igpt/formats/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"

namespace igpt::formats {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;     // zlib's way to say: gzip header and trailer, largest window
constexpr uint64_t kMaximumExpansion = 1032;  // of deflate: zlib.net/zlib_tech.html
constexpr size_t kChunk = size_t{64} * 1024;

bool starts_as_gzip(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b");
}

class Inflater {
 public:
  Inflater(uint64_t max_bytes, uint64_t compressed_size, std::string name)
      : max_bytes_(max_bytes), name_(std::move(name)) {
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw Error(name_ + ": not enough memory to decompress");
    // Reserved memory that nothing is written to costs nothing; growing by doubling would hold the content twice.
    const uint64_t ceiling = compressed_size > max_bytes / kMaximumExpansion
                                 ? max_bytes
                                 : std::min(max_bytes, compressed_size * kMaximumExpansion);
    content_.reserve(ceiling);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream_); }

  void feed(std::string_view compressed) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
    stream_.avail_in = static_cast<uInt>(compressed.size());
    while (stream_.avail_in > 0 || pending_) {
      if (between_members_ && skip_padding()) return;
      if (between_members_) begin_member();
      if (!step()) return;
    }
  }

  std::string finish() {
    if (!between_members_ || members_ == 0)
      throw InputError(name_ + ": the compressed data is cut short; copy or download it again");
    return std::move(content_);
  }

 private:
  // Zeros up to the end of the file, which tapes and block devices leave behind the last member, are no error for
  // gzip -t either. Whether the input was such.
  bool skip_padding() {
    if (members_ == 0 || (*stream_.next_in != 0 && !padded_)) return false;
    padded_ = true;
    const std::span<const Bytef> rest(stream_.next_in, stream_.avail_in);
    if (!std::ranges::all_of(rest, [](Bytef byte) { return byte == 0; })) refuse_what_follows();
    stream_.avail_in = 0;
    return true;
  }

  [[noreturn]] void refuse_what_follows() const {
    throw InputError(name_ + ": something that is not gzip follows the compressed data; copy or download it again");
  }

  void begin_member() {
    if (members_ > 0 && *stream_.next_in != 0x1f) refuse_what_follows();
    inflateReset(&stream_);
    between_members_ = false;
  }

  // Inflates into one chunk; false when it needs more input.
  bool step() {
    stream_.next_out = chunk_.data();
    stream_.avail_out = static_cast<uInt>(chunk_.size());
    const int status = inflate(&stream_, Z_NO_FLUSH);
    const size_t made = chunk_.size() - stream_.avail_out;
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      throw InputError(name_ + ": the compressed data is damaged (" + (stream_.msg ? stream_.msg : zError(status)) +
                       "); copy or download it again");
    if (made > max_bytes_ - content_.size())
      throw InputError(name_ + ": decompresses to more than the " + std::to_string(max_bytes_) +
                       " bytes that it can have; is it the right file?");
    content_.append(reinterpret_cast<const char*>(chunk_.data()), made);
    pending_ = stream_.avail_out == 0;
    if (status == Z_STREAM_END) {
      between_members_ = true;
      pending_ = false;
      ++members_;
    }
    return status != Z_BUF_ERROR;
  }

  z_stream stream_ = {};
  uint64_t max_bytes_;
  std::string name_, content_;
  std::vector<Bytef> chunk_ = std::vector<Bytef>(kChunk);
  bool between_members_ = true;
  bool padded_ = false;
  bool pending_ = false;  // zlib may hold output that did not fit
  uint64_t members_ = 0;
};

}  // namespace

std::string gunzip(std::string_view compressed, uint64_t max_bytes, const std::string& name) {
  if (!starts_as_gzip(compressed)) throw InputError(name + ": is not a gzip file; is it the right one?");
  Inflater inflater(max_bytes, compressed.size(), name);
  while (!compressed.empty()) {
    const size_t size = std::min(compressed.size(), kChunk);
    inflater.feed(compressed.substr(0, size));
    compressed.remove_prefix(size);
  }
  return inflater.finish();
}

std::string gzip(std::string_view bytes, int level) {
  z_stream stream = {};
  if (deflateInit2(&stream, level, Z_DEFLATED, kGzipOnly, /*memLevel=*/8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw Error("not enough memory to compress");
  std::string compressed;
  std::vector<Bytef> chunk(kChunk);
  int status = Z_OK;
  while (status == Z_OK) {
    if (stream.avail_in == 0) {
      const size_t size = std::min(bytes.size(), size_t{1} << 30);  // zlib counts in 32 bits
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      stream.avail_in = static_cast<uInt>(size);
      bytes.remove_prefix(size);
    }
    stream.next_out = chunk.data();
    stream.avail_out = static_cast<uInt>(chunk.size());
    status = deflate(&stream, bytes.empty() ? Z_FINISH : Z_NO_FLUSH);
    compressed.append(reinterpret_cast<const char*>(chunk.data()), chunk.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  return compressed;
}

std::string read_plain_or_gzip(const std::filesystem::path& path, uint64_t max_bytes) {
  InputFile file(path);
  std::string chunk(std::min<uint64_t>(kChunk, file.size()), '\0');
  chunk.resize(file.read(std::as_writable_bytes(std::span(chunk))));
  if (!starts_as_gzip(chunk)) return read_file(path, max_bytes);

  Inflater inflater(max_bytes, file.size(), path.string());
  while (!chunk.empty()) {
    inflater.feed(chunk);
    chunk.resize(file.read(std::as_writable_bytes(std::span(chunk))));
  }
  return inflater.finish();
}

}  // namespace igpt::formats
