#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace igpt::formats {

/// The content of a gzip file (RFC 1952), its members joined, checked by their CRC-32 and length. Never holds more than
/// `max_bytes` of it. `name` starts messages. Throws igpt::InputError for what is not gzip, is cut short, damaged,
/// followed by something else than zeros, or larger than max_bytes.
std::string gunzip(std::string_view compressed, uint64_t max_bytes, const std::string& name);

/// `bytes` as a gzip file of one member, without a name or time; level 0 (stored) to 9.
std::string gzip(std::string_view bytes, int level = 6);

/// A file that is plain or gzip, as its first two bytes tell; its content is at most `max_bytes`. Memory: the content
/// and 64 KiB.
std::string read_plain_or_gzip(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace igpt::formats
