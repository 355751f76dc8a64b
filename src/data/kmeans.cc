#include "igpt/data/kmeans.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "igpt/error.h"
#include "src/data/nearest_colour.h"
#include "src/data/parallel.h"

namespace igpt::data {
namespace {

constexpr int kRounds = 24, kForgettingRounds = 16;  // mini-batches; of them those that halve the weight of the older
constexpr int64_t kSmallestBatch = int64_t{1} << 18, kLargestBatch = int64_t{1} << 20, kPixelsOfAColour = 512;
constexpr int64_t kSmallestStart = int64_t{1} << 15, kLargestStart = int64_t{1} << 17, kStartPixelsOfAColour = 64;
constexpr int64_t kFewColours = 64;
constexpr double kStartDistances = 1 << 29;  // that the trials of the start may take

constexpr size_t kChannels = 3;

// A set of RGB colours, a bit for each that there is.
class ColourSet {
 public:
  // Whether it is new.
  bool insert(const uint8_t* pixel) {
    const size_t place = size_t{pixel[0]} << 16 | size_t{pixel[1]} << 8 | size_t{pixel[2]};
    if (bits_[place]) return false;
    return bits_[place] = true;
  }

 private:
  std::vector<bool> bits_ = std::vector<bool>(size_t{1} << (8 * kChannels));
};

// Uniform in [0, bound) but for a share of bound / 2^64.
uint64_t draw_below(std::mt19937_64& random, uint64_t bound) {
  return random() % bound;
}

// The index into weights whose sums up to and including each are `sums`, with probability proportional to its weight.
size_t draw_by_weight(std::mt19937_64& random, const std::vector<double>& sums) {
  const double target = static_cast<double>(random() >> 11) * 0x1p-53 * sums.back();  // 53 bits of a fraction
  const auto found = std::ranges::upper_bound(sums, target);
  return static_cast<size_t>(std::min(found, sums.end() - 1) - sums.begin());
}

[[noreturn]] void refuse(int64_t vocab, int64_t found, const char* colours) {
  throw InputError("a palette of " + std::to_string(vocab) + " colours is not possible: the images have " +
                   std::to_string(found) + " different " + colours + "; give --num_vocab " + std::to_string(found) +
                   " or less");
}

// Of RGB pixels.
class KMeans {
 public:
  KMeans(std::span<const uint8_t> pixels, const KMeansOptions& options)
      : pixels_(pixels),
        count_(static_cast<int64_t>(pixels.size() / kChannels)),
        vocab_(options.num_vocab),
        threads_(options.threads > 0 ? options.threads : processors()),
        waiting_(options.waiting),
        random_(static_cast<uint64_t>(options.seed)) {}

  Palette cluster() {
    expect_enough_colours();
    const auto sample = draw_pixels(kSmallestBatch);
    std::vector<double> best;
    double least = std::numeric_limits<double>::infinity();
    // The fewer the colours, the more depends on where they start.
    for (int attempt = 0; attempt < (vocab_ <= kFewColours ? 4 : 1); ++attempt) {
      centres_.clear();
      start();
      for (int round = 0; round < kRounds; ++round) {
        if (waiting_) waiting_();
        improve(round < kForgettingRounds);
      }
      if (const double found = error(sample); found < least) least = found, best = centres_;
    }
    centres_ = std::move(best);
    return rounded();
  }

 private:
  const uint8_t* pixel(int64_t i) const { return pixels_.data() + static_cast<size_t>(i) * kChannels; }

  void expect_enough_colours() const {
    ColourSet colours;
    int64_t found = 0;
    for (int64_t i = 0; i < count_ && found < vocab_; ++i) found += colours.insert(pixel(i));
    if (found < vocab_) refuse(vocab_, found, "colours");
  }

  // `size` pixels drawn with replacement, or all of them where there are not more. (size, 3)
  std::vector<uint8_t> draw_pixels(int64_t size) {
    if (count_ <= size) return {pixels_.begin(), pixels_.end()};
    std::vector<uint8_t> drawn(static_cast<size_t>(size) * kChannels);
    for (size_t i = 0; i < drawn.size(); i += kChannels) {
      const uint8_t* colour = pixel(static_cast<int64_t>(draw_below(random_, static_cast<uint64_t>(count_))));
      for (size_t c = 0; c < kChannels; ++c) drawn[i + c] = colour[c];
    }
    return drawn;
  }

  void add_centre(const uint8_t* colour) {
    for (size_t c = 0; c < kChannels; ++c) centres_.push_back(colour[c]);
  }

  // k-means++ on some of the pixels, and where they have too few colours, the first others of a random place on.
  void start() {
    const int64_t size = std::clamp(vocab_ * kStartPixelsOfAColour, kSmallestStart, kLargestStart);
    const auto sample = draw_pixels(size);
    const auto n = static_cast<int64_t>(sample.size() / kChannels);
    const double affordable = kStartDistances / (static_cast<double>(n) * static_cast<double>(vocab_));
    const int trials = std::max(1, static_cast<int>(std::min(affordable, 2 + std::log(static_cast<double>(vocab_)))));
    std::vector<std::vector<float>> planes(kChannels, std::vector<float>(static_cast<size_t>(n)));
    for (size_t i = 0; i < sample.size(); ++i) planes[i % kChannels][i / kChannels] = sample[i];
    const auto first = draw_below(random_, static_cast<uint64_t>(n));
    add_centre(&sample[first * kChannels]);
    Squares squares(static_cast<size_t>(n));
    approach(planes, first, squares);
    while (static_cast<int64_t>(centres_.size() / kChannels) < vocab_ && squares.sum > 0) {
      if (waiting_) waiting_();
      size_t chosen = squares.draw(random_);
      int64_t least = trials > 1 ? approach(planes, chosen, std::as_const(squares)) : 0;
      for (int trial = 1; trial < trials; ++trial) {
        const size_t candidate = squares.draw(random_);
        if (const int64_t sum = approach(planes, candidate, std::as_const(squares)); sum < least)
          least = sum, chosen = candidate;
      }
      approach(planes, chosen, squares);
      add_centre(&sample[chosen * kChannels]);
    }
    add_others(centres_);
    weights_.assign(static_cast<size_t>(vocab_), 0);
  }

  // The squared distances of pixels to their nearest centres, with the sums of blocks. All are whole numbers.
  struct Squares {
    static constexpr size_t kBlock = 4096;  // so many squares of at most 3 * 255^2 fit an int

    explicit Squares(size_t count) : values(count, 4 * 65536.0f), block_sums((count + kBlock - 1) / kBlock) {}

    // A pixel, with probability proportional to its square.
    size_t draw(std::mt19937_64& random) const {
      auto target = static_cast<int64_t>(draw_below(random, static_cast<uint64_t>(sum)));
      size_t block = 0;
      while (target >= block_sums[block]) target -= block_sums[block++];
      size_t i = block * kBlock;
      while (target >= static_cast<int64_t>(values[i])) target -= static_cast<int64_t>(values[i++]);
      return i;
    }

    std::vector<float> values;
    std::vector<int64_t> block_sums;
    int64_t sum = 0;
  };

  // The sum of the squares when pixel k of the planes is a centre, too; squares that may be changed then become those.
  template <class SomeSquares>
  int64_t approach(const std::vector<std::vector<float>>& planes, size_t k, SomeSquares& squares) const {
    constexpr bool kChanges = !std::is_const_v<SomeSquares>;
    const float *red = planes[0].data(), *green = planes[1].data(), *blue = planes[2].data();
    const float r = red[k], g = green[k], b = blue[k];
    auto* square = squares.values.data();
    int64_t total = 0;
    for (size_t block = 0; block < squares.block_sums.size(); ++block) {
      const size_t begin = block * Squares::kBlock, end = std::min(begin + Squares::kBlock, squares.values.size());
      int32_t sum = 0;
      for (size_t i = begin; i < end; ++i) {
        const float dr = red[i] - r, dg = green[i] - g, db = blue[i] - b;
        const float least = std::min(square[i], dr * dr + (dg * dg + db * db));
        if constexpr (kChanges) square[i] = least;
        sum += static_cast<int32_t>(least);
      }
      if constexpr (kChanges) squares.block_sums[block] = sum;
      total += sum;
    }
    if constexpr (kChanges) squares.sum = total;
    return total;
  }

  // Completes colours, of which there may be too few, with others that the pixels have.
  template <class T>
  void add_others(std::vector<T>& colours) {
    const auto wanted = static_cast<size_t>(vocab_) * kChannels;
    if (colours.size() == wanted) return;
    ColourSet present;
    std::array<uint8_t, kChannels> bytes = {};
    for (size_t k = 0; k < colours.size(); k += kChannels) {
      for (size_t c = 0; c < kChannels; ++c) bytes[c] = static_cast<uint8_t>(colours[k + c]);
      present.insert(bytes.data());
    }
    const auto from = static_cast<int64_t>(draw_below(random_, static_cast<uint64_t>(count_)));
    for (int64_t i = 0; i < count_ && colours.size() < wanted; ++i) {
      const uint8_t* other = pixel((from + i) % count_);
      if (present.insert(other)) colours.insert(colours.end(), other, other + kChannels);
    }
  }

  NearestColour nearest_centre(std::span<const uint8_t> pixels) const {
    const auto values = std::vector<float>(centres_.begin(), centres_.end());
    PixelCounts counts;
    counts.add(pixels);
    return {values, kChannels, /*unit=*/1, counts, threads_};
  }

  // The squared distances of pixels to their nearest centres, summed in one order whatever the number of threads.
  double error(const std::vector<uint8_t>& pixels) const {
    const NearestColour nearest = nearest_centre(pixels);
    double sum = 0;
    for (size_t i = 0; i < pixels.size(); i += kChannels) {
      const size_t k = nearest(&pixels[i]);
      for (size_t c = 0; c < kChannels; ++c) {
        const double difference = pixels[i + c] - centres_[k * kChannels + c];
        sum += difference * difference;
      }
    }
    return sum;
  }

  // Moves each centre towards the mean of the pixels of a mini-batch that are nearest to it. Sums of bytes are exact in
  // any order.
  void improve(bool forgetting) {
    const auto batch = draw_pixels(std::clamp(vocab_ * kPixelsOfAColour, kSmallestBatch, kLargestBatch));
    const auto n = static_cast<int64_t>(batch.size() / kChannels);
    const NearestColour nearest = nearest_centre(batch);
    std::vector<int64_t> sums(centres_.size()), counts(static_cast<size_t>(vocab_));
    std::vector<uint16_t> tokens(static_cast<size_t>(n));
    std::mutex mutex;
    in_parallel(n, threads_, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> own_sums(sums.size()), own_counts(counts.size());
      for (int64_t i = begin; i < end; ++i) {
        const uint8_t* colour = &batch[static_cast<size_t>(i) * kChannels];
        const uint32_t k = nearest(colour);
        tokens[static_cast<size_t>(i)] = static_cast<uint16_t>(k);
        ++own_counts[k];
        for (size_t c = 0; c < kChannels; ++c) own_sums[k * kChannels + c] += colour[c];
      }
      const std::scoped_lock lock(mutex);
      std::ranges::transform(sums, own_sums, sums.begin(), std::plus<>());
      std::ranges::transform(counts, own_counts, counts.begin(), std::plus<>());
    });
    bool has_unused = false;
    for (size_t k = 0; k < counts.size(); ++k) {
      weights_[k] = (forgetting ? weights_[k] / 2 : weights_[k]) + static_cast<double>(counts[k]);
      has_unused |= weights_[k] < 0.5;
      if (counts[k] == 0) continue;
      for (size_t c = 0; c < kChannels; ++c) {
        double& centre = centres_[k * kChannels + c];
        const double mean = static_cast<double>(sums[k * kChannels + c]) / static_cast<double>(counts[k]);
        centre += static_cast<double>(counts[k]) / weights_[k] * (mean - centre);
      }
    }
    if (has_unused && forgetting) move_unused(batch, tokens);
  }

  // Puts centres that have no pixels any more on pixels that are far from their centres.
  void move_unused(const std::vector<uint8_t>& batch, const std::vector<uint16_t>& tokens) {
    std::vector<double> sums(tokens.size());
    double sum = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (size_t c = 0; c < kChannels; ++c) {
        const double difference = batch[i * kChannels + c] - centres_[tokens[i] * kChannels + c];
        sum += difference * difference;
      }
      sums[i] = sum;
    }
    for (size_t k = 0; k < weights_.size() && sum > 0; ++k) {
      if (weights_[k] >= 0.5) continue;
      const size_t i = draw_by_weight(random_, sums);
      for (size_t c = 0; c < kChannels; ++c) centres_[k * kChannels + c] = batch[i * kChannels + c];
    }
  }

  // Centres that become equal are replaced by other colours of the pixels.
  Palette rounded() {
    ColourSet present;
    std::vector<uint8_t> bytes;
    for (size_t k = 0; k < centres_.size(); k += kChannels) {
      std::array<uint8_t, kChannels> colour = {};
      for (size_t c = 0; c < kChannels; ++c)
        colour[c] = static_cast<uint8_t>(std::clamp(std::lround(centres_[k + c]), 0L, 255L));
      if (present.insert(colour.data())) bytes.insert(bytes.end(), colour.begin(), colour.end());
    }
    add_others(bytes);
    std::vector<std::array<uint8_t, kChannels>> colours(static_cast<size_t>(vocab_));
    for (size_t i = 0; i < bytes.size(); ++i) colours[i / kChannels][i % kChannels] = bytes[i];
    std::ranges::sort(colours, {}, [](const auto& c) { return std::tuple(299 * c[0] + 587 * c[1] + 114 * c[2], c); });
    Palette palette;
    palette.channels = kChannels;
    for (const auto& colour : colours) palette.colours.insert(palette.colours.end(), colour.begin(), colour.end());
    return palette;
  }

  std::span<const uint8_t> pixels_;
  int64_t count_, vocab_;
  int threads_;
  const std::function<void()>& waiting_;
  std::mt19937_64 random_;
  std::vector<double> centres_;  // (V, 3)
  std::vector<double> weights_;  // (V) pixels that have moved a centre, the older ones less
};

// The best palette of greys that there is. Each of its colours stands for greys next to each other, so that the best
// division of the first j greys into k parts follows from those into k - 1 parts (Bellman 1973).
Palette cluster_greys(std::span<const uint8_t> pixels, int64_t vocab) {
  std::array<int64_t, 256> counts = {};
  for (const uint8_t pixel : pixels) ++counts[pixel];
  // Numbers, sums and sums of squares of the pixels with the first greys that there are.
  std::vector<std::array<int64_t, 3>> sums = {{0, 0, 0}};
  for (int64_t grey = 0; grey < 256; ++grey)
    if (const int64_t n = counts[static_cast<size_t>(grey)]; n > 0)
      sums.push_back({sums.back()[0] + n, sums.back()[1] + n * grey, sums.back()[2] + n * grey * grey});
  const size_t greys = sums.size() - 1, parts = static_cast<size_t>(vocab);
  if (greys < parts) refuse(vocab, static_cast<int64_t>(greys), "greys");
  // The mean of the greys from i to j - 1, rounded, and their squared distances to it.
  const auto part = [&](size_t i, size_t j) {
    const int64_t n = sums[j][0] - sums[i][0], sum = sums[j][1] - sums[i][1];
    const int64_t mean = (2 * sum + n) / (2 * n);
    return std::pair(mean, sums[j][2] - sums[i][2] - 2 * mean * sum + mean * mean * n);
  };
  std::vector<int64_t> least(greys + 1);
  for (size_t j = 1; j <= greys; ++j) least[j] = part(0, j).second;
  std::vector<std::vector<size_t>> starts(parts, std::vector<size_t>(greys + 1));  // of the last part
  for (size_t k = 1; k < parts; ++k)
    for (size_t j = greys; j > k; --j) {
      least[j] = INT64_MAX;
      for (size_t i = k; i < j; ++i)
        if (const int64_t sum = least[i] + part(i, j).second; sum < least[j]) least[j] = sum, starts[k][j] = i;
    }
  Palette palette{1, std::vector<uint8_t>(parts)};
  for (size_t k = parts, j = greys; k-- > 0; j = starts[k][j])
    palette.colours[k] = static_cast<uint8_t>(part(starts[k][j], j).first);
  return palette;
}

}  // namespace

Palette cluster(std::span<const uint8_t> pixels, int64_t channels, const KMeansOptions& options) {
  if ((channels != 1 && channels != 3) || pixels.size() % static_cast<size_t>(channels) != 0)
    throw InputError(std::to_string(pixels.size()) + " bytes are not grey or RGB pixels");
  if (options.num_vocab < 2 || options.num_vocab > kLargestVocab)
    throw InputError("a palette has 2 to " + std::to_string(kLargestVocab) + " colours, not " +
                     std::to_string(options.num_vocab));
  return channels == 1 ? cluster_greys(pixels, options.num_vocab) : KMeans(pixels, options).cluster();
}

}  // namespace igpt::data
