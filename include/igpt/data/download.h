#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "igpt/error.h"

namespace igpt::data {

/// Receives the bytes so far and in all (0 while unknown).
using ProgressCallback = std::function<void(uint64_t done, uint64_t total)>;

/// A server did not deliver the file.
class DownloadError : public Error {
 public:
  using Error::Error;
};

struct DownloadOptions {
  uint64_t max_bytes = uint64_t{1} << 30;
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};  ///< gives up after being slower than `min_bytes_per_second` for this long
  int64_t min_bytes_per_second = 1000;
  int max_redirects = 5;
  int max_attempts = 5;  ///< connections for one file; only one that received something is followed by another

  /// Called at least once a second while waiting. An exception from it ends the download and passes through; what
  /// arrived stays for the next call.
  ProgressCallback progress;
};

/// Downloads `url` (http or https) into the file `part`. Continues what is there if the server agrees (status 206 and a
/// matching Content-Range), and otherwise starts again. TLS certificates are verified; no redirect leads from https to
/// http. `part` stays when the connection breaks, so that a later call continues; an empty one is removed. Throws
/// igpt::Error that names the URL and the cause.
void download(const std::string& url, const std::filesystem::path& part, const DownloadOptions& options);

/// Whether a text is a URL and no path.
bool is_url(const std::string& source);

}  // namespace igpt::data
