#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace igpt::testing {

/// An HTTP server on 127.0.0.1 that sends whatever `answer` returns, byte for byte, and closes the connection. Serves
/// one connection after the other.
class HttpServer {
 public:
  /// Makes all bytes of the response from the head of the request. A response that ends in kHold is followed by
  /// silence.
  using Answer = std::function<std::string(const std::string& request)>;
  static constexpr std::string_view kHold = "\1hold\1";

  explicit HttpServer(Answer answer) : answer_(std::move(answer)) {
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (socket_ < 0 || ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket_, 16) != 0 || ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("cannot listen on 127.0.0.1");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer() {
    stop_ = true;
    thread_.join();
    ::close(socket_);
  }

  std::string url(const std::string& path = "") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }

  /// The heads of all requests so far.
  std::vector<std::string> requests() const {
    const std::lock_guard guard(mutex_);
    return requests_;
  }

 private:
  bool readable(int descriptor) const {
    pollfd one = {descriptor, POLLIN, 0};
    return ::poll(&one, 1, /*milliseconds=*/10) > 0;
  }

  void serve() {
    while (!stop_) {
      if (!readable(socket_)) continue;
      const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      converse(connection);
      ::close(connection);
    }
  }

  void converse(int connection) {
    std::string request;
    while (!stop_ && request.find("\r\n\r\n") == std::string::npos) {
      if (!readable(connection)) continue;
      char chunk[4096];
      const ssize_t size = ::recv(connection, chunk, sizeof chunk, 0);
      if (size <= 0) return;
      request.append(chunk, static_cast<size_t>(size));
    }
    {
      const std::lock_guard guard(mutex_);
      requests_.push_back(request);
    }
    std::string response = answer_(request);
    const bool hold = response.ends_with(kHold);
    if (hold) response.resize(response.size() - kHold.size());
    for (std::string_view rest = response; !rest.empty();) {
      const ssize_t sent = ::send(connection, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      rest.remove_prefix(static_cast<size_t>(sent));
    }
    // Silence until the client closes the connection.
    while (hold && !stop_ && !readable(connection)) continue;
    ::shutdown(connection, SHUT_WR);
    // Reading the rest lets the response arrive before the connection is reset.
    char ignored[256];
    while (!stop_ && readable(connection) && ::recv(connection, ignored, sizeof ignored, 0) > 0) continue;
  }

  Answer answer_;
  int socket_ = -1, port_ = 0;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

/// A response with a body and its correct length.
inline std::string ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" +
         std::string(body);
}

inline std::string status(const std::string& line, const std::string& headers = "") {
  return "HTTP/1.1 " + line + "\r\n" + headers + "Content-Length: 5\r\nConnection: close\r\n\r\nsorry";
}

/// The first byte that a request asks for; 0 for the whole file.
inline size_t range_start(const std::string& request) {
  const size_t at = request.find("Range: bytes=");
  return at == std::string::npos ? 0 : std::stoul(request.substr(at + 13));
}

/// The response of a good server: the whole file or the range that was requested.
inline std::string serve_file(const std::string& request, const std::string& file) {
  const size_t start = range_start(request);
  if (start == 0) return ok(file);
  if (start >= file.size())
    return status("416 Range Not Satisfiable", "Content-Range: bytes */" + std::to_string(file.size()) + "\r\n");
  return "HTTP/1.1 206 Partial Content\r\nContent-Length: " + std::to_string(file.size() - start) +
         "\r\ncontent-range: bytes " + std::to_string(start) + "-" + std::to_string(file.size() - 1) + "/" +
         std::to_string(file.size()) + "\r\nConnection: close\r\n\r\n" + file.substr(start);
}

}  // namespace igpt::testing
