#include "igpt/data/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>

#include "igpt/formats/append_file.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

enum class Outcome {
  kDone,
  kBroken,   // what arrived can be continued
  kRestart,  // what arrived cannot be continued
};

formats::AppendFile open_part(const fs::path& path) {
  constexpr int flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  formats::FileDescriptor file(::open(path.c_str(), flags, 0666));
  if (!file)
    throw Error(path.string() + ": cannot create: " + std::strerror(errno) + "; choose a folder that you may write to");
  return {path, std::move(file)};
}

// The first byte in "bytes 100-199/200".
std::optional<uint64_t> first_byte(std::string_view content_range) {
  constexpr std::string_view unit = "bytes ";
  if (!content_range.starts_with(unit)) return std::nullopt;
  uint64_t first = 0;
  const char* const end = content_range.data() + content_range.size();
  const auto parsed = std::from_chars(content_range.data() + unit.size(), end, first);
  const bool is_range = parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-';
  return is_range ? std::optional(first) : std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::strchr(" \t\r\n", text.front())) text.remove_prefix(1);
  while (!text.empty() && std::strchr(" \t\r\n", text.back())) text.remove_suffix(1);
  return text;
}

bool is_header(std::string_view line, std::string_view name) {
  return line.size() > name.size() && line[name.size()] == ':' &&
         std::ranges::equal(line.substr(0, name.size()), name,
                            [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
}

// One connection. libcurl is C: an exception of a callback is kept, and thrown again when libcurl has returned.
class Transfer {
 public:
  Transfer(const std::string& url, formats::AppendFile& file, const DownloadOptions& options)
      : url_(url), file_(file), options_(options), start_(file.size()), curl_(curl_easy_init(), curl_easy_cleanup) {
    if (!curl_) throw Error("libcurl does not start; check its installation");
    set_up();
  }

  Outcome perform() {
    const CURLcode code = curl_easy_perform(curl_.get());
    if (thrown_) std::rethrow_exception(thrown_);
    const long status = http_status();
    if (status == 416 && start_ > 0) return Outcome::kRestart;
    if (restart_) return Outcome::kRestart;
    if (code == CURLE_OK) {
      if (status != 200 && status != 206) refuse("HTTP " + std::to_string(status));
      if (!started_ && !start_body()) return Outcome::kRestart;
      return Outcome::kDone;
    }
    switch (code) {
      case CURLE_PARTIAL_FILE:
      case CURLE_RECV_ERROR:
      case CURLE_SEND_ERROR:
      case CURLE_GOT_NOTHING:
      case CURLE_HTTP2_STREAM:
      case CURLE_OPERATION_TIMEDOUT:
        if (started_ && file_.size() > start_) return Outcome::kBroken;
        refuse(code == CURLE_OPERATION_TIMEDOUT ? "the server does not answer" : "the connection broke");
      case CURLE_HTTP_RETURNED_ERROR:
        refuse("HTTP " + std::to_string(status));
      case CURLE_TOO_MANY_REDIRECTS:
        refuse("it redirects in a circle");
      case CURLE_UNSUPPORTED_PROTOCOL:
        refuse("neither http nor https, or a redirect from https to something else");
      case CURLE_FILESIZE_EXCEEDED:
        refuse_size();
      default:
        refuse(error_[0] ? std::string(trimmed(error_)) : std::string(curl_easy_strerror(code)));
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const { throw DownloadError(url_ + ": " + reason); }
  [[noreturn]] void refuse_size() const {
    refuse("sends more than the " + std::to_string(options_.max_bytes) + " bytes that the file can have");
  }

  template <class T>
  void set(CURLoption option, T value) {
    if (curl_easy_setopt(curl_.get(), option, value) != CURLE_OK)
      throw Error("libcurl does not know an option that downloads need; install a newer one");
  }

  void set_up() {
    const bool secure = url_.starts_with("https:");
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
#else
    set(CURLOPT_PROTOCOLS, long{CURLPROTO_HTTP | CURLPROTO_HTTPS});
    set(CURLOPT_REDIR_PROTOCOLS, long{secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS});
#endif
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_ERRORBUFFER, error_);
    set(CURLOPT_USERAGENT, "igpt");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FAILONERROR, 1L);
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, static_cast<long>(options_.max_redirects));
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options_.min_bytes_per_second));
    set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(options_.max_bytes));
    // Not CURLOPT_RESUME_FROM: start_body decides whether the answer continues the file.
    if (start_ > 0) set(CURLOPT_RANGE, (std::to_string(start_) + "-").c_str());
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
    set(CURLOPT_XFERINFODATA, this);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    set(CURLOPT_WRITEDATA, this);
  }

  long http_status() const {
    long status = 0;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    return status;
  }

  // Whether the answer is the whole file or the rest of it.
  bool start_body() {
    started_ = true;
    if (http_status() == 206) {
      restart_ = start_ == 0 || range_start_ != start_;
      if (restart_ && start_ == 0) refuse("answers with a part of the file that nobody asked for");
      return !restart_;
    }
    file_.clear();
    return true;
  }

  template <class Body>
  bool guarded(const Body& body) {
    try {
      return body();
    } catch (...) {
      thrown_ = std::current_exception();
      return false;
    }
  }

  static int on_progress(void* self, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (!transfer.options_.progress) return 0;
    const bool go_on = transfer.guarded([&] {
      const uint64_t before = transfer.file_.size() - std::min(transfer.file_.size(), static_cast<uint64_t>(now));
      transfer.options_.progress(transfer.file_.size(), total > 0 ? before + static_cast<uint64_t>(total) : 0);
      return true;
    });
    return go_on ? 0 : 1;
  }

  static size_t on_header(char* data, size_t, size_t size, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const std::string_view line(data, size);
    if (line.starts_with("HTTP/")) transfer.range_start_.reset();
    if (is_header(line, "content-range")) transfer.range_start_ = first_byte(trimmed(line.substr(14)));
    return size;
  }

  static size_t on_body(char* data, size_t, size_t size, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const bool taken = transfer.guarded([&] {
      if (!transfer.started_ && !transfer.start_body()) return false;
      if (size > transfer.options_.max_bytes - std::min(transfer.options_.max_bytes, transfer.file_.size()))
        transfer.refuse_size();
      transfer.file_.append({data, size});
      return true;
    });
    return taken ? size : 0;
  }

  const std::string& url_;
  formats::AppendFile& file_;
  const DownloadOptions& options_;
  const uint64_t start_;
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl_;
  char error_[CURL_ERROR_SIZE] = {};
  std::optional<uint64_t> range_start_;
  bool started_ = false, restart_ = false;
  std::exception_ptr thrown_;
};

}  // namespace

bool is_url(const std::string& source) {
  return source.find("://") != std::string::npos;
}

void download(const std::string& url, const fs::path& part, const DownloadOptions& options) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) throw Error("libcurl does not start; check its installation");
  formats::AppendFile file = open_part(part);
  if (file.size() > options.max_bytes) file.clear();
  try {
    for (int attempt = 1; attempt <= options.max_attempts; ++attempt) {
      switch (Transfer(url, file, options).perform()) {
        case Outcome::kDone:
          return file.flush();
        case Outcome::kRestart:
          file.clear();
          break;
        case Outcome::kBroken:
          break;
      }
    }
    throw DownloadError(url + ": the connection broke " + std::to_string(options.max_attempts) + " times");
  } catch (...) {
    if (file.size() == 0) ::unlink(part.c_str());
    throw;
  }
}

}  // namespace igpt::data
