#include "igpt/model/image_gpt.h"

#include <torch/nn/modules/container/functional.h>

#include "igpt/error.h"
#include "igpt/model/causal_attention.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/model/recompute.h"
#include "igpt/ops/neighbourhood.h"

namespace igpt {
namespace {

namespace nn = torch::nn;
using torch::Tensor;
using torch::indexing::Slice;

constexpr double kNormEps = 1e-5;

// The approximation of GELU that Hendrycks and Gimpel 2016 name beside it.
Tensor quick_gelu(const Tensor& x) {
  return x * torch::sigmoid(1.702 * x);
}

Tensor palette_of(const ImageGPTOptions& options) {
  if (options.palette.empty())
    return torch::linspace(0, 255, options.num_vocab, torch::kFloat64).round().to(torch::kUInt8).unsqueeze(1);
  return torch::tensor(options.palette, torch::kUInt8).reshape({-1, options.channels});
}

// (count, K) int64: where the neighbours of positions `first` and on are, S for those outside the image
Tensor neighbour_positions(const ops::ModelShape& shape, int64_t first, int64_t count) {
  const int64_t side = shape.side();
  const auto positions = torch::full({count, shape.neighbours}, shape.sequence_length, torch::kInt64);
  auto* place = positions.data_ptr<int64_t>();
  const auto neighbours = ops::neighbourhood(shape.neighbours);
  for (int64_t s = first; s < first + count; ++s)
    for (const auto& at : neighbours) {
      if (at.is_inside(s / side, s % side, side)) *place = s + at.down * side + at.right;
      ++place;
    }
  return positions;
}

// (B, S, D) -> (B, H, S, d)
Tensor split_heads(const Tensor& h, int64_t num_heads) {
  return h.unflatten(-1, {num_heads, h.size(-1) / num_heads}).transpose(1, 2);
}

// Of keys and values in a cache: whole vectors.
int64_t padded_head_dim(const ImageGPTOptions& options) {
  return (options.head_dim() + 7) / 8 * 8;
}

}  // namespace

NormImpl::NormImpl(int64_t embed_dim, bool rms_norm) : embed_dim_(embed_dim), rms_norm_(rms_norm) {
  reset();
}

void NormImpl::reset() {
  weight = register_parameter("weight", torch::ones({embed_dim_}));
  if (!rms_norm_) bias = register_parameter("bias", torch::zeros({embed_dim_}));
}

Tensor NormImpl::forward(const Tensor& h) {
  return rms_norm_ ? torch::rms_norm(h, {embed_dim_}, weight, kNormEps)
                   : torch::layer_norm(h, {embed_dim_}, weight, bias, kNormEps);
}

ConvolutionImpl::ConvolutionImpl(int64_t embed_dim, int64_t side, int64_t taps)
    : embed_dim_(embed_dim), side_(side), taps_(taps) {
  reset();
}

void ConvolutionImpl::reset() {
  weight = register_parameter("weight", torch::zeros({taps_, embed_dim_}));
}

Tensor ConvolutionImpl::forward(const Tensor& h) {
  const int64_t length = h.size(1), reach = ops::kNeighbourReach;
  const auto images = torch::constant_pad_nd(h, {0, 0, 0, side_ * side_ - length}).unflatten(1, {side_, side_});
  const auto padded = torch::constant_pad_nd(images, {0, 0, reach, reach, reach, 0});  // (B, side + r, side + 2 r, D)
  auto sum = images;
  const auto taps = ops::neighbourhood(taps_);
  for (size_t k = 0; k < taps.size(); ++k) {
    const auto seen = padded.narrow(1, reach + taps[k].down, side_).narrow(2, reach + taps[k].right, side_);
    sum = sum + seen * weight[static_cast<int64_t>(k)];
  }
  return sum.flatten(1, 2).narrow(1, 0, length);
}

Tensor ConvolutionImpl::decode(const Tensor& h, int64_t position, Tensor read) {
  read.select(1, position).copy_(h.squeeze(1));
  auto sum = h;
  const auto taps = ops::neighbourhood(taps_);
  for (size_t k = 0; k < taps.size(); ++k)
    if (taps[k].is_inside(position / side_, position % side_, side_))
      sum = sum + read.narrow(1, position + taps[k].down * side_ + taps[k].right, 1) * weight[static_cast<int64_t>(k)];
  return sum;
}

CausalSelfAttentionImpl::CausalSelfAttentionImpl(int64_t embed_dim, int64_t num_heads)
    : embed_dim_(embed_dim), num_heads_(num_heads) {
  reset();
}

void CausalSelfAttentionImpl::reset() {
  // PyTorch's initial values of nn.MultiheadAttention: Xavier-uniform projection in, zero biases.
  in_proj_weight = register_parameter("in_proj_weight", torch::empty({3 * embed_dim_, embed_dim_}));
  in_proj_bias = register_parameter("in_proj_bias", torch::zeros({3 * embed_dim_}));
  out_proj = register_module("out_proj", nn::Linear(embed_dim_, embed_dim_));
  torch::NoGradGuard no_grad;
  nn::init::xavier_uniform_(in_proj_weight);
  out_proj->bias.zero_();
}

Tensor CausalSelfAttentionImpl::forward(const Tensor& h) {
  const auto qkv = torch::linear(h, in_proj_weight, in_proj_bias).chunk(3, -1);  // 3 x (B, S, D)
  const auto q = split_heads(qkv[0], num_heads_);                                // (B, H, S, d)
  const auto k = split_heads(qkv[1], num_heads_);
  const auto v = split_heads(qkv[2], num_heads_);
  const auto attended = causal_attention(q, k, v, 1 / std::sqrt(static_cast<double>(q.size(-1))));
  return out_proj->forward(attended.transpose(1, 2).flatten(2));  // (B, S, D)
}

Tensor CausalSelfAttentionImpl::decode(const Tensor& h, int64_t position, Tensor& keys, Tensor& values) {
  const auto qkv = torch::linear(h, in_proj_weight, in_proj_bias).chunk(3, -1);  // 3 x (B, 1, D)
  const int64_t head_dim = embed_dim_ / num_heads_, padding = keys.size(-1) - head_dim;
  const auto q = torch::constant_pad_nd(split_heads(qkv[0], num_heads_), {0, padding});  // (B, H, 1, d')
  keys.select(2, position).narrow(-1, 0, head_dim).copy_(split_heads(qkv[1], num_heads_).squeeze(2));
  values.select(2, position).narrow(-1, 0, head_dim).copy_(split_heads(qkv[2], num_heads_).squeeze(2));
  const auto k = keys.narrow(2, 0, position + 1);  // (B, H, position + 1, d')
  const auto v = values.narrow(2, 0, position + 1);
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const auto weights = (torch::matmul(q, k.transpose(-2, -1)) * scale).softmax(-1);  // (B, H, 1, position + 1)
  const auto attended = torch::matmul(weights, v).narrow(-1, 0, head_dim);           // (B, H, 1, d)
  return out_proj->forward(attended.transpose(1, 2).flatten(2));                     // (B, 1, D)
}

BlockImpl::BlockImpl(const ops::ModelShape& shape) : shape_(shape) {
  reset();
}

void BlockImpl::reset() {
  const int64_t d = shape_.embed_dim;
  ln_1 = register_module("ln_1", Norm(d, shape_.rms_norm));
  ln_2 = register_module("ln_2", Norm(d, shape_.rms_norm));
  attn = register_module("attn", CausalSelfAttention(d, shape_.num_heads));
  mlp = nn::Sequential(nn::Linear(d, 4 * d));
  if (shape_.quick_gelu)
    mlp->push_back(nn::Functional(quick_gelu));
  else
    mlp->push_back(nn::GELU());
  mlp->push_back(nn::Linear(4 * d, d));
  register_module("mlp", mlp);
  if (shape_.conv_taps > 0) conv = register_module("conv", Convolution(d, shape_.side(), shape_.conv_taps));
}

Tensor BlockImpl::forward(const Tensor& h) {
  const auto normalised = ln_1->forward(h);
  const auto attended = (shape_.pre_norm ? h : normalised) + attn->forward(normalised);
  const auto normalised_2 = ln_2->forward(attended);
  return attended + mlp->forward(conv ? conv->forward(normalised_2) : normalised_2);
}

Tensor BlockImpl::decode(const Tensor& h, int64_t position, size_t layer, KeyValueCache& cache) {
  const auto normalised = ln_1->forward(h);
  const auto attended =
      (shape_.pre_norm ? h : normalised) + attn->decode(normalised, position, cache.keys[layer], cache.values[layer]);
  const auto normalised_2 = ln_2->forward(attended);
  return attended + mlp->forward(conv ? conv->decode(normalised_2, position, cache.convolved[layer]) : normalised_2);
}

ClassifierHeadImpl::ClassifierHeadImpl(int64_t embed_dim, int64_t num_classes, bool with_bias)
    : embed_dim_(embed_dim), num_classes_(num_classes), with_bias_(with_bias) {
  reset();
}

void ClassifierHeadImpl::reset() {
  const nn::Linear linear(embed_dim_, num_classes_);  // for its initial values
  weight = register_parameter("weight", linear->weight.detach());
  if (with_bias_) bias = register_parameter("bias", linear->bias.detach());
}

Tensor ClassifierHeadImpl::forward(const Tensor& h) {
  return torch::linear(h.mean(1), weight, bias);
}

ImageGPTImpl::ImageGPTImpl(ImageGPTOptions options) : options_(std::move(options)) {
  check(options_);
  shape_ = shape_of(options_);
  reset();
}

void ImageGPTImpl::reset() {
  weights_ = Tensor();
  const int64_t d = options_.embed_dim;
  if (shape_.conditional)
    sos = register_parameter("sos", torch::randn({shape_.num_classes, d}));
  else if (shape_.start_tokens() > 0)
    sos = register_parameter("sos", torch::randn({d}));
  if (shape_.is_plane()) {
    const int64_t side = options_.num_pixels;
    const int64_t rank = shape_.table_rank, rows = shape_.num_vocab + 1;
    if (rank > 0)
      neighbour_projections =
          register_parameter("neighbour_projections", torch::randn({shape_.neighbours, rank, d}) / std::sqrt(rank));
    token_embeddings = register_module(
        "token_embeddings", rank > 0 ? nn::Embedding(rows, rank) : nn::Embedding(shape_.neighbours * rows, d));
    row_embeddings = register_module("row_embeddings", nn::Embedding(side, d));
    column_embeddings = register_module("column_embeddings", nn::Embedding(side, d));
  } else {
    token_embeddings = register_module("token_embeddings", nn::Embedding(options_.num_vocab, d));
    position_embeddings = register_module("position_embeddings", nn::Embedding(options_.sequence_length(), d));
  }
  layers = register_module("layers", nn::ModuleList());
  for (int64_t i = 0; i < options_.num_layers; ++i) layers->push_back(Block(shape_));
  ln_f = register_module("ln_f", Norm(d, shape_.rms_norm));
  head = register_module("head", nn::Linear(nn::LinearOptions(options_.embed_dim, options_.num_vocab).bias(false)));
  clf_head =
      register_module("clf_head", ClassifierHead(options_.embed_dim, options_.num_classes, shape_.classifier_bias));
  palette_ = palette_of(options_);
  if (shape_.paper_initial_values) set_paper_initial_values();
}

// Of Chen et al. 2020, as their code has them (openai/image-gpt, src/model.py).
void ImageGPTImpl::set_paper_initial_values() {
  const torch::NoGradGuard no_grad;
  const auto width = static_cast<double>(options_.embed_dim), depth = static_cast<double>(options_.num_layers);
  sos.normal_(0, 0.02);
  token_embeddings->weight.normal_(0, 0.02);
  position_embeddings->weight.normal_(0, 0.01);
  for (const auto& layer : *layers) {
    auto* const block = layer->as<Block>();
    block->attn->in_proj_weight.normal_(0, 1 / std::sqrt(width));
    block->attn->out_proj->weight.normal_(0, 1 / std::sqrt(width * depth));
    for (const size_t linear : {0, 2}) {
      block->mlp[linear]->as<nn::Linear>()->weight.normal_(0, 0.02);
      block->mlp[linear]->as<nn::Linear>()->bias.zero_();
    }
  }
  head->weight.zero_();
  clf_head->weight.zero_();
}

const Tensor& ImageGPTImpl::weights() {
  if (!weights_.defined()) weights_ = flatten_in_place(parameters());
  return weights_;
}

void ImageGPTImpl::to(torch::Device device, bool non_blocking) {
  Cloneable::to(device, non_blocking);
  weights_ = Tensor();
}

void ImageGPTImpl::to(torch::Dtype dtype, bool non_blocking) {
  Cloneable::to(dtype, non_blocking);
  weights_ = Tensor();
}

void ImageGPTImpl::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  Cloneable::to(device, dtype, non_blocking);
  weights_ = Tensor();
}

std::vector<Tensor> ImageGPTImpl::embeddings() const {
  std::vector<Tensor> all{token_embeddings->weight};
  if (shape_.is_plane())
    all.insert(all.end(), {row_embeddings->weight, column_embeddings->weight});
  else
    all.push_back(position_embeddings->weight);
  if (sos.defined()) all.insert(all.begin(), sos);
  return all;
}

Tensor ImageGPTImpl::neighbour_tables() const {
  if (shape_.table_rank == 0) return token_embeddings->weight;
  return torch::matmul(token_embeddings->weight, neighbour_projections).flatten(0, 1);
}

Tensor ImageGPTImpl::forward(const Tensor& x, const Tensor& labels) {
  return head->forward(features(x, labels));
}

Tensor ImageGPTImpl::features(const Tensor& x, const Tensor& labels) {
  return features_of(embed(x.to(torch::kInt64), labels));
}

Tensor ImageGPTImpl::features_of(Tensor h) {
  for (const auto& layer : *layers) {
    const auto forward = [block = layer->as<Block>()](const Tensor& input) { return block->forward(input); };
    h = activation_checkpointing_ && torch::GradMode::is_enabled() ? recomputed(forward, h) : forward(h);
  }
  return shape_.final_norm ? ln_f->forward(h) : h;
}

Tensor ImageGPTImpl::layer_features(const Tensor& x) {
  auto h = embed(x.to(torch::kInt64), /*labels=*/{});
  std::vector<Tensor> means;
  for (const auto& layer : *layers) {
    auto* const block = layer->as<Block>();
    means.push_back(block->ln_1->forward(h).mean(1));
    h = block->forward(h);
  }
  means.push_back((shape_.final_norm ? ln_f->forward(h) : h).mean(1));
  return torch::stack(means, 1);
}

// (B, S) int64, (B) int64 -> (B, S, D)
Tensor ImageGPTImpl::embed(const Tensor& x, const Tensor& labels) {
  if (shape_.conditional && !labels.defined())
    throw Error("the model has a start token for each class and was not told the images' classes");
  const int64_t length = x.size(1);
  if (shape_.is_plane()) {
    const auto padded = torch::constant_pad_nd(x, {0, options_.sequence_length() + 1 - length}, options_.num_vocab);
    const auto positions = row_embeddings->weight.unsqueeze(1) + column_embeddings->weight;  // (side, side, D)
    return embed_neighbours(padded, neighbour_positions(shape_, 0, length), labels) +
           positions.flatten(0, 1).narrow(0, 0, length);
  }
  const auto e = token_embeddings->forward(x);                                // (B, S, D)
  const auto start = start_embeddings(labels, x.size(0)).unsqueeze(1);        // (B, 1, D)
  const auto h = torch::cat({start, e.narrow(1, 0, length - 1)}, /*dim=*/1);  // shifted right by one
  return h + position_embeddings->weight.narrow(0, 0, length);
}

// What stands before the first token, (batch, D).
Tensor ImageGPTImpl::start_embeddings(const Tensor& labels, int64_t batch) {
  return shape_.conditional ? torch::embedding(sos, labels) : sos.expand({batch, -1});
}

// `tokens` (B, S + 1), the last V; `neighbours` (s, K) their places -> sums of the embeddings (B, s, D). `start_labels`
// (B): the classes whose start tokens the first of these positions has on its left; undefined: none.
Tensor ImageGPTImpl::embed_neighbours(const Tensor& tokens, const Tensor& neighbours, const Tensor& start_labels) {
  const int64_t count = neighbours.size(1);
  const auto tables = torch::arange(count, tokens.options()) * (options_.num_vocab + 1);  // (K)
  auto rows = tokens.index({Slice(), neighbours.to(tokens.device())}) + tables;           // (B, s, K)
  auto embeddings = neighbour_tables();
  if (shape_.conditional && start_labels.defined()) {
    rows.index_put_({Slice(), 0, 0}, start_labels + embeddings.size(0));
    embeddings = torch::cat({embeddings, sos});
  }
  const auto sums =
      torch::embedding_bag(embeddings, rows.flatten(), torch::arange(0, rows.numel(), count, tokens.options()));
  return std::get<0>(sums).view({rows.size(0), rows.size(1), -1});
}

Tensor ImageGPTImpl::classify(const Tensor& x) {
  if (options_.shifted_classifier) return clf_head->forward(features(x));
  const auto e = token_embeddings->forward(x.to(torch::kInt64));  // (B, S, D)
  return clf_head->forward(features_of(e + position_embeddings->weight.narrow(0, 0, x.size(1))));
}

KeyValueCache ImageGPTImpl::make_cache(int64_t batch) const {
  KeyValueCache cache;
  const std::vector<int64_t> shape{batch, options_.num_heads, options_.sequence_length(), padded_head_dim(options_)};
  for (int64_t i = 0; i < options_.num_layers; ++i) {
    cache.keys.push_back(torch::zeros(shape, head->weight.options().requires_grad(false)));
    cache.values.push_back(torch::zeros(shape, head->weight.options().requires_grad(false)));
    if (shape_.conv_taps > 0)
      cache.convolved.push_back(torch::zeros({batch, options_.sequence_length(), options_.embed_dim},
                                             head->weight.options().requires_grad(false)));
  }
  if (shape_.is_plane())
    cache.tokens = torch::full({batch, options_.sequence_length() + 1}, options_.num_vocab,
                               torch::dtype(torch::kInt64).device(device()));
  return cache;
}

int64_t ImageGPTImpl::cache_bytes() const {
  const int64_t numbers = options_.num_heads * options_.sequence_length() * padded_head_dim(options_);
  const int64_t convolved = shape_.conv_taps > 0 ? options_.sequence_length() * options_.embed_dim : 0;
  return options_.num_layers * (2 * numbers + convolved) * static_cast<int64_t>(head->weight.element_size());
}

Tensor ImageGPTImpl::decode(const Tensor& previous, int64_t position, KeyValueCache& cache) {
  const int64_t batch = cache.keys.front().size(0);
  Tensor h;  // (B, 1, D)
  if (shape_.is_plane()) {
    if (position > 0) cache.tokens.select(1, position - 1).copy_(previous);
    const int64_t side = options_.num_pixels;
    h = embed_neighbours(cache.tokens, neighbour_positions(shape_, position, 1), position == 0 ? previous : Tensor()) +
        row_embeddings->weight[position / side] + column_embeddings->weight[position % side];
  } else {
    const auto token =
        position == 0 ? start_embeddings(previous, batch) : token_embeddings->forward(previous);  // (B, D)
    h = (token + position_embeddings->weight[position]).unsqueeze(1);
  }
  for (size_t i = 0; i < layers->size(); ++i) h = layers[i]->as<Block>()->decode(h, position, i, cache);
  return head->forward(shape_.final_norm ? ln_f->forward(h) : h).squeeze(1);  // (B, V)
}

Tensor generative_loss(const Tensor& logits, const Tensor& x) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), x.to(torch::kInt64).flatten());
}

Tensor nats_per_pixel(const Tensor& logits, const Tensor& x) {
  const auto options = torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone);
  return torch::nn::functional::cross_entropy(logits.transpose(1, 2), x.to(torch::kInt64), options);
}

Tensor nats_per_image(const Tensor& logits, const Tensor& x) {
  return nats_per_pixel(logits, x).sum(1, false, torch::kFloat64);
}

}  // namespace igpt
