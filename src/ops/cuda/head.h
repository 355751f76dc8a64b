#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

struct HeadSizes {
  int64_t images = 0;       ///< B
  int length = 0;           ///< S
  int embed = 0;            ///< D: a multiple of 4, up to 64
  int outputs = 0;          ///< V, up to 256, or C
  bool final_norm = false;  ///< whether ln_f is applied before the head

  int64_t tokens() const { return images * length; }
};

/// Logits of every position and their cross-entropy, with the gradient in the same pass. `norm` (2D): ln_f.weight and
/// ln_f.bias, read where final_norm. What is null is not computed; the gradients together or not at all.
struct Head {
  HeadSizes sizes;
  const float *norm, *weight;  // weight (V, D)
  const float* x;              // (B, S, D)
  const uint8_t* tokens;       // (B, S) < V; null: logits only
  float scale = 1;             ///< of the gradients of the sum over all positions
  float* nats = nullptr;       // (B, S)
  float* logits = nullptr;     // (B, S, V)
  float* dx = nullptr;         // (B, S, D)
  float* sums = nullptr;  // (head_parts, 2D + V D) with final_norm, else (head_parts, V D): the parts of the gradient
};

/// Class logits from the mean over the positions, of ln_f's output where final_norm.
struct Classifier {
  HeadSizes sizes;
  const float *norm, *weight, *bias;  // weight (C, D), bias (C)
  const float* x;                     // (B, S, D)
  const int64_t* labels;              // (B) < C; null: logits only
  float scale = 1;                    ///< of the gradients of the sum over the images
  float* nats = nullptr;              // (B)
  float* logits = nullptr;            // (B, C)
  float* dx = nullptr;                // (B, S, D)
  float* sums = nullptr;              // (B, 2D + C D + C) with final_norm, else (B, C D + C)
  bool add_to_dx = false;             ///< dx grows by the gradient instead of becoming it
};

constexpr bool head_supports(const HeadSizes& s, int most_outputs) {
  return s.images > 0 && s.length > 0 && s.tokens() <= (int64_t{1} << 31) && s.embed >= 4 && s.embed <= 64 &&
         s.embed % 4 == 0 && s.outputs > 0 && s.outputs <= most_outputs;
}
constexpr int kMostTokens = 256, kMostClasses = 1024;

int64_t head_parts(const HeadSizes& sizes);
int head_shared_bytes(const HeadSizes& sizes);  ///< of a block
int classifier_shared_bytes(const HeadSizes& sizes);
constexpr int64_t head_sums(const HeadSizes& s) {
  return (s.final_norm ? 2 * s.embed : 0) + int64_t{s.outputs} * s.embed;
}
constexpr int64_t classifier_sums(const HeadSizes& s) {
  return head_sums(s) + s.outputs;
}

/// Null, or one line with the cause why not.
const char* head(const Head& arguments, void* stream = nullptr);
const char* classifier(const Classifier& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
