#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace igpt::data {

/// SHA-256 (FIPS 180-4) of bytes that are given in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  std::string hex();  ///< 64 digits, lower case. Call once.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256(std::string_view bytes);

/// The SHA-256 of a file's content; throws igpt::InputError when it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace igpt::data
