#include "igpt/training/token_dataset.h"

#include <numeric>
#include <random>

namespace igpt::training {
namespace {

constexpr int64_t kSplitStream = -1;  // epochs use 0, 1, 2, ...
constexpr int64_t kValidationShare = 10;

// Uniform in [0, bound) without bias: draws above the largest multiple of `bound` are thrown away.
uint64_t draw_below(std::mt19937_64& generator, uint64_t bound) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  uint64_t value = generator();
  while (value >= limit) value = generator();
  return value % bound;
}

}  // namespace

torch::Tensor token_tensor(const data::Split& split) {
  return std::visit([&](const auto& tokens) { return torch::tensor(tokens).reshape({split.count, -1}); }, split.tokens);
}

TokenDataset TokenDataset::select(const torch::Tensor& indices) const {
  const auto index = indices.to(tokens.device(), /*non_blocking=*/true);
  return {tokens.index_select(0, index), labels.index_select(0, index)};
}

TokenDataset TokenDataset::to(const torch::Device& device) const {
  return {tokens.to(device), labels.to(device)};
}

TokenDataset make_token_dataset(const data::Split& split) {
  return {token_tensor(split), split.labels.empty() ? torch::zeros({split.count}, torch::kInt64)
                                                    : torch::tensor(split.labels, torch::kInt64)};
}

std::vector<int64_t> shuffled_indices(int64_t size, int64_t seed, int64_t stream) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32),
                         static_cast<uint32_t>(stream), static_cast<uint32_t>(static_cast<uint64_t>(stream) >> 32)};
  std::mt19937_64 generator(sequence);
  std::vector<int64_t> indices(static_cast<size_t>(size));
  std::iota(indices.begin(), indices.end(), 0);
  for (size_t i = indices.size(); i > 1; --i) std::swap(indices[i - 1], indices[draw_below(generator, i)]);
  return indices;
}

std::pair<TokenDataset, TokenDataset> split_for_validation(const TokenDataset& dataset, int64_t seed) {
  const auto order = torch::tensor(shuffled_indices(dataset.size(), seed, kSplitStream), torch::kInt64);
  const int64_t validation = std::max<int64_t>(1, dataset.size() / kValidationShare);
  const int64_t training = dataset.size() - validation;
  return {dataset.select(order.narrow(0, 0, training)), dataset.select(order.narrow(0, training, validation))};
}

torch::Tensor BatchOrder::batch(int64_t position, int64_t batch_size) {
  auto indices = torch::empty({batch_size}, torch::kInt64);
  auto* out = indices.data_ptr<int64_t>();
  for (int64_t i = 0; i < batch_size; ++i, ++position) {
    if (position / size_ != epoch_) {
      epoch_ = position / size_;
      permutation_ = shuffled_indices(size_, seed_, epoch_);
    }
    out[i] = permutation_[static_cast<size_t>(position % size_)];
  }
  return indices;
}

}  // namespace igpt::training
