#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "igpt/error.h"

namespace igpt::data {

/// Bytes so far and in all (0 while unknown).
using ProgressCallback = std::function<void(uint64_t done, uint64_t total)>;

/// A server did not deliver.
class DownloadError : public Error {
 public:
  using Error::Error;
};

struct DownloadOptions {
  uint64_t max_bytes = uint64_t{1} << 30;
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};  ///< gives up when this long slower than `min_bytes_per_second`
  int64_t min_bytes_per_second = 1000;
  int max_redirects = 5;
  int max_attempts = 5;  ///< connections for one file; each after the first must have had something to continue

  /// Called at least once a second while waiting. What it throws ends the download and comes out of it; what arrived
  /// stays for the next time.
  ProgressCallback progress;
};

/// Downloads `url` (http or https) into the file `part`, continuing what is there if the server agrees to (status 206
/// and a matching Content-Range), else from the start. TLS certificates are verified; from https no redirect leads to
/// http. `part` stays when the connection breaks, so that a later call continues; it is removed when it is known to be
/// useless. Throws igpt::Error that names the URL and the cause.
void download(const std::string& url, const std::filesystem::path& part, const DownloadOptions& options);

}  // namespace igpt::data
