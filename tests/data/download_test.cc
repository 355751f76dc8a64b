#include "igpt/data/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "data/http_server.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

using igpt::testing::HttpServer;
using igpt::testing::ok;
using igpt::testing::range_start;
using igpt::testing::read_bytes;
using igpt::testing::serve_file;
using igpt::testing::status;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

std::string content() {
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes += static_cast<char>(i * 7 + i / 256);
  return bytes;
}

class Download : public ::testing::Test {
 protected:
  Download() {
    // A proxy of the machine that runs the tests must not be used for loopback addresses.
    setenv("no_proxy", "127.0.0.1", 1);
    options_.connect_timeout = std::chrono::milliseconds(2000);
    options_.stall_timeout = std::chrono::seconds(1);
    options_.max_bytes = 1 << 20;
  }

  void fetch(const HttpServer& server) { download(server.url("/file.gz"), part_, options_); }
  std::string got() const { return read_bytes(part_); }

  TemporaryFolder folder_;
  std::filesystem::path part_ = folder_ / "file.gz.part";
  DownloadOptions options_;
  const std::string file_ = content();
};

TEST_F(Download, BringsTheFile) {
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_); });
  uint64_t last = 0, of = 0;
  options_.progress = [&](uint64_t done, uint64_t total) { last = done, of = total; };
  fetch(server);
  EXPECT_EQ(got(), file_);
  EXPECT_EQ(last, file_.size());
  EXPECT_EQ(of, file_.size());
  EXPECT_THAT(server.requests().at(0), HasSubstr("GET /file.gz HTTP/1.1"));
  EXPECT_THAT(server.requests().at(0), Not(HasSubstr("Range:")));
}

TEST_F(Download, ContinuesWhatIsThere) {
  write_bytes(part_, file_.substr(0, 150'000));
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_); });
  uint64_t of = 0;
  options_.progress = [&](uint64_t, uint64_t total) { of = total; };
  fetch(server);
  EXPECT_EQ(got(), file_);
  EXPECT_EQ(of, file_.size());
  EXPECT_THAT(server.requests().at(0), HasSubstr("Range: bytes=150000-"));
}

TEST_F(Download, ACutConnectionIsContinued) {
  const HttpServer server([&](const std::string& request) {
    const std::string response = serve_file(request, file_);
    return range_start(request) < 120'000 ? response.substr(0, 60'000) : response;
  });
  fetch(server);
  EXPECT_EQ(got(), file_);
  EXPECT_EQ(server.requests().size(), 4u);
}

TEST_F(Download, WhatArrivedStaysWhenTheConnectionKeepsBreaking) {
  options_.max_attempts = 1;
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_).substr(0, 60'000); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("the connection broke")));
  EXPECT_GT(got().size(), 50'000u);
  EXPECT_EQ(got(), file_.substr(0, got().size()));
}

TEST_F(Download, AServerThatBreaksEveryTimeIsGivenUp) {
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_).substr(0, 1000); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("the connection broke 5 times")));
  EXPECT_EQ(server.requests().size(), 5u);
}

TEST_F(Download, AServerThatIgnoresTheRangeStartsOver) {
  write_bytes(part_, std::string(150'000, 'x'));
  const HttpServer server([&](const std::string&) { return ok(file_); });
  fetch(server);
  EXPECT_EQ(got(), file_);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(Download, AnotherRangeThanTheOneAskedForStartsOver) {
  for (const char* range : {"Content-Range: bytes 100-199999/200000\r\n", "Content-Range: nonsense\r\n",
                            "Content-Range: bytes 150000\r\n", ""}) {
    write_bytes(part_, std::string(150'000, 'x'));
    const HttpServer server([&](const std::string& request) {
      return range_start(request) == 0 ? ok(file_) : status("206 Partial Content", range);
    });
    fetch(server);
    EXPECT_EQ(got(), file_) << range;
  }
}

TEST_F(Download, APartThatNobodyAskedForIsRefused) {
  const HttpServer server(
      [&](const std::string&) { return status("206 Partial Content", "Content-Range: bytes 0-4/200000\r\n"); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("nobody asked for")));
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Download, Status416StartsOver) {
  write_bytes(part_, file_ + "and more");
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_); });
  fetch(server);
  EXPECT_EQ(got(), file_);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(Download, AnEmptyAnswerReplacesWhatWasThere) {
  write_bytes(part_, "old");
  const HttpServer server([&](const std::string&) { return ok(""); });
  fetch(server);
  EXPECT_EQ(got(), "");
}

TEST_F(Download, ErrorsOfTheServerAreNamed) {
  for (const char* line : {"404 Not Found", "403 Forbidden", "500 Internal Server Error"}) {
    const HttpServer server([&](const std::string&) { return status(line); });
    EXPECT_THAT([&] { fetch(server); },
                ThrowsMessage<DownloadError>(HasSubstr("/file.gz: HTTP " + std::string(line, 3))));
    EXPECT_TRUE(folder_.names().empty()) << "nothing of the error page is kept";
  }
}

TEST_F(Download, AnErrorKeepsWhatWasThere) {
  write_bytes(part_, "the start");
  const HttpServer server([&](const std::string&) { return status("503 Service Unavailable"); });
  EXPECT_THROW(fetch(server), DownloadError);
  EXPECT_EQ(got(), "the start");
}

TEST_F(Download, FollowsARedirect) {
  const HttpServer server([&](const std::string& request) {
    return request.starts_with("GET /file.gz") ? status("302 Found", "Location: /elsewhere\r\n")
                                               : serve_file(request, file_);
  });
  fetch(server);
  EXPECT_EQ(got(), file_);
}

TEST_F(Download, ARedirectInACircleEnds) {
  const HttpServer server([&](const std::string&) { return status("302 Found", "Location: /file.gz\r\n"); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("redirects in a circle")));
}

TEST_F(Download, ARedirectToAnotherProtocolIsRefused) {
  write_bytes(folder_ / "secret", "secret");
  for (const std::string& target : {"file://" + (folder_ / "secret").string(), std::string("ftp://127.0.0.1/x"),
                                    std::string("gopher://127.0.0.1/x")}) {
    const HttpServer server([&](const std::string&) { return status("302 Found", "Location: " + target + "\r\n"); });
    EXPECT_THROW(fetch(server), DownloadError) << target;
  }
  EXPECT_THROW(download("file://" + (folder_ / "secret").string(), part_, options_), DownloadError);
  EXPECT_EQ(folder_.names(), std::set<std::string>{"secret"});
}

TEST_F(Download, AServerThatNeverAnswersTimesOut) {
  const HttpServer server([&](const std::string&) { return std::string(HttpServer::kHold); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("the server does not answer")));
}

TEST_F(Download, AServerThatFallsSilentIsContinued) {
  options_.min_bytes_per_second = 1 << 30;  // libcurl's speed is a mean over seconds; at once below this one
  const HttpServer server([&](const std::string& request) {
    const std::string response = serve_file(request, file_);
    return range_start(request) == 0 ? response.substr(0, 60'000) + std::string(HttpServer::kHold) : response;
  });
  fetch(server);
  EXPECT_EQ(got(), file_);
}

TEST_F(Download, AServerThatHangsUpAtOnceIsNamed) {
  const HttpServer server([&](const std::string&) { return std::string(); });
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<DownloadError>(HasSubstr("the connection broke")));
}

TEST_F(Download, NoServerIsNamed) {
  std::string url;
  {
    url = HttpServer([](const std::string&) { return ""; }).url("/file.gz");
  }
  EXPECT_THAT([&] { download(url, part_, options_); }, ThrowsMessage<DownloadError>(HasSubstr(url)));
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Download, MoreThanTheLimitIsRefused) {
  options_.max_bytes = 100'000;
  const HttpServer announced([&](const std::string&) { return ok(file_); });
  EXPECT_THAT([&] { fetch(announced); }, ThrowsMessage<DownloadError>(HasSubstr("more than the 100000 bytes")));
  const HttpServer silent([&](const std::string&) { return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + file_; });
  EXPECT_THAT([&] { fetch(silent); }, ThrowsMessage<DownloadError>(HasSubstr("more than the 100000 bytes")));
  EXPECT_LE(got().size(), 100'000u);
}

TEST_F(Download, AContentLengthThatPromisesTooMuchIsACutConnection) {
  const HttpServer server([&](const std::string& request) {
    return range_start(request) > 0 ? serve_file(request, file_)
                                    : "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + file_.substr(0, 1234);
  });
  fetch(server);
  EXPECT_EQ(got(), file_);
}

TEST_F(Download, WhatTheCallbackThrowsComesOutAndWhatArrivedStays) {
  const HttpServer server([&](const std::string& request) {
    return serve_file(request, file_).substr(0, 60'000) + std::string(HttpServer::kHold);
  });
  options_.stall_timeout = std::chrono::seconds(60);
  options_.progress = [&](uint64_t done, uint64_t) {
    if (done > 10'000) throw Interrupted(SIGINT);
  };
  EXPECT_THROW(fetch(server), Interrupted);
  EXPECT_GT(got().size(), 10'000u);
  EXPECT_EQ(got(), file_.substr(0, got().size()));
}

TEST_F(Download, AFullDiskIsNamed) {
  const HttpServer server([&](const std::string& request) { return serve_file(request, file_); });
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 50'000;
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THAT([&] { fetch(server); }, ThrowsMessage<Error>(HasSubstr("file.gz.part: cannot write")));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
}

TEST_F(Download, AFolderThatDoesNotExistIsNamed) {
  EXPECT_THAT([&] { download("http://127.0.0.1/", folder_ / "missing" / "x.part", options_); },
              ThrowsMessage<Error>(HasSubstr("x.part: cannot create")));
}

}  // namespace
}  // namespace igpt::data
