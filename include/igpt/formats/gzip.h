#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace igpt::formats {

/// The content of a file that is plain or gzip (RFC 1952), as its first two bytes tell; at most `max_bytes`. The
/// members of a gzip file are joined and checked by their CRC-32 and length. Takes 128 KiB of memory beyond the
/// content. Throws igpt::InputError for a gzip file that is cut short, damaged, followed by something else than zeros,
/// or whose content is larger than max_bytes.
std::string read_plain_or_gzip(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace igpt::formats
