#include "igpt/data/sha256.h"

#include <openssl/evp.h>

#include <new>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/limits.h"

namespace igpt::data {

namespace {

// Fetched once, early: OpenSSL crashes when memory runs out while it looks for an algorithm.
const EVP_MD* algorithm() {
  static EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (!fetched)
    throw Error("OpenSSL cannot start to compute SHA-256" + memory_limit_in_words() +
                (memory_limit() ? "; allow more, or check its configuration" : "; check its configuration"));
  return fetched;
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  if (!state_->context || EVP_DigestInit_ex(state_->context, algorithm(), nullptr) != 1) throw std::bad_alloc();
}

Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, digest, &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  formats::InputFile file(path);
  Sha256 hash;
  std::string chunk(size_t{256} << 10, '\0');
  while (const size_t size = file.read(std::as_writable_bytes(std::span(chunk)))) hash.update({chunk.data(), size});
  return hash.hex();
}

}  // namespace igpt::data
