#include "igpt/training/token_dataset.h"

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "igpt/data/shuffle.h"

namespace igpt::training {
namespace {

constexpr int64_t kSplitStream = -1;  // epochs use 0, 1, 2, ...
constexpr int64_t kValidationShare = 10;

// A tensor that owns the vector's memory.
template <class T>
torch::Tensor tensor_of(std::vector<T> values, torch::IntArrayRef shape) {
  const auto owner = std::make_shared<std::vector<T>>(std::move(values));
  return torch::from_blob(
      owner->data(), shape, [owner](void*) {}, torch::CppTypeToScalarType<T>::value);
}

// Row order[i] comes to place i, along the cycles of the permutation: the rows are never held twice.
void reorder_rows(const torch::Tensor& rows, std::vector<int64_t> order) {
  const size_t bytes = rows.nbytes() / static_cast<size_t>(rows.size(0));
  auto* const data = static_cast<std::byte*>(rows.data_ptr());
  const auto row = [&](int64_t i) { return data + static_cast<size_t>(i) * bytes; };
  std::vector<std::byte> first(bytes);
  for (int64_t start = 0; start < rows.size(0); ++start) {
    if (order[start] == start) continue;  // also where an earlier cycle has been
    std::memcpy(first.data(), row(start), bytes);
    int64_t place = start;
    while (order[place] != start) {
      const int64_t from = order[place];
      std::memcpy(row(place), row(from), bytes);
      order[place] = place;
      place = from;
    }
    std::memcpy(row(place), first.data(), bytes);
    order[place] = place;
  }
}

}  // namespace

TokenDataset TokenDataset::select(const torch::Tensor& indices) const {
  const auto index = indices.to(tokens.device(), /*non_blocking=*/true);
  return {tokens.index_select(0, index), labels.index_select(0, index)};
}

TokenDataset TokenDataset::to(const torch::Device& device) const {
  return {tokens.to(device), labels.to(device)};
}

TokenDataset make_token_dataset(data::Split& split) {
  const int64_t pixels = split.num_pixels * split.num_pixels;
  const auto tokens = std::visit(
      [&](auto& all) {
        return tensor_of(std::move(all), {split.count, pixels});
      },
      split.tokens);
  if (split.labels.empty()) return {tokens, torch::zeros({split.count}, torch::kInt64)};
  return {tokens, tensor_of(std::move(split.labels), {split.count})};
}

std::pair<TokenDataset, TokenDataset> split_for_validation(const TokenDataset& dataset, int64_t seed) {
  const auto order = data::shuffled_indices(dataset.size(), seed, kSplitStream);
  const int64_t validation = std::max<int64_t>(1, dataset.size() / kValidationShare);
  const int64_t training = dataset.size() - validation;
  reorder_rows(dataset.tokens, order);
  reorder_rows(dataset.labels, order);
  const auto part = [&](int64_t start, int64_t size) {
    return TokenDataset{dataset.tokens.narrow(0, start, size), dataset.labels.narrow(0, start, size)};
  };
  return {part(0, training), part(training, validation)};
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
