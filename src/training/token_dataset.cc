#include "igpt/training/token_dataset.h"

#include "igpt/data/shuffle.h"

namespace igpt::training {
namespace {

constexpr int64_t kSplitStream = -1;  // epochs use 0, 1, 2, ...
constexpr int64_t kValidationShare = 10;

}  // namespace

TokenDataset TokenDataset::select(const torch::Tensor& indices) const {
  const auto index = indices.to(tokens.device(), /*non_blocking=*/true);
  return {tokens.index_select(0, index), labels.index_select(0, index)};
}

TokenDataset TokenDataset::to(const torch::Device& device) const {
  return {tokens.to(device), labels.to(device)};
}

TokenDataset make_token_dataset(const data::Split& split) {
  const auto tokens = std::visit([](const auto& all) { return torch::tensor(all); }, split.tokens);
  return {tokens.reshape({split.count, -1}), split.labels.empty() ? torch::zeros({split.count}, torch::kInt64)
                                                                  : torch::tensor(split.labels, torch::kInt64)};
}

std::pair<TokenDataset, TokenDataset> split_for_validation(const TokenDataset& dataset, int64_t seed) {
  const auto order = torch::tensor(data::shuffled_indices(dataset.size(), seed, kSplitStream), torch::kInt64);
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
      permutation_ = data::shuffled_indices(size_, seed_, epoch_);
    }
    out[i] = permutation_[static_cast<size_t>(position % size_)];
  }
  return indices;
}

}  // namespace igpt::training
