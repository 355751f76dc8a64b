#pragma once

#include <string_view>

namespace igpt::formats {

/// Whether all of `text` is UTF-8 (RFC 3629), where `with_surrogates` also what Python writes of lone surrogates.
bool is_utf8(std::string_view text, bool with_surrogates = false);

}  // namespace igpt::formats
