#pragma once

#include <zlib.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace igpt::testing {

/// `bytes` after zlib's deflate. `window_bits` picks the format, as deflateInit2 has it: -MAX_WBITS for raw deflate,
/// 16 + MAX_WBITS for gzip. `level`: 0 (stored) to 9.
inline std::string deflated(std::string_view bytes, int window_bits, int level) {
  z_stream stream = {};
  if (deflateInit2(&stream, level, Z_DEFLATED, window_bits, /*memLevel=*/8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("zlib");
  std::string compressed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(compressed.data());
  stream.avail_out = static_cast<uInt>(compressed.size());
  deflate(&stream, Z_FINISH);
  compressed.resize(stream.total_out);
  deflateEnd(&stream);
  return compressed;
}

/// `bytes` as a gzip file of one member, without a name or time; level 0 (stored) to 9.
inline std::string gzip(std::string_view bytes, int level = 6) {
  return deflated(bytes, 16 + MAX_WBITS, level);
}

}  // namespace igpt::testing
