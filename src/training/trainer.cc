#include "trainer.h"

#include <cmath>
#include <numeric>

#include "igpt/error.h"
#include "igpt/ops/autocast.h"
#include "igpt/ops/device.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "igpt/training/augment.h"
#include "igpt/training/schedule.h"
#include "start.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kLogInterval = 50;  // steps between rows of the training loss

// Takes over every weight whose shape fits: all, but a classifier head with another number of classes.
void load_weights(ImageGPT& model, const Checkpoint& checkpoint) {
  torch::NoGradGuard no_grad;
  auto parameters = model->named_parameters();
  for (const auto& [name, tensor] : checkpoint.state_dict)
    if (parameters[name].sizes() == tensor.sizes()) parameters[name].copy_(tensor);
}

// Smaller embeddings than torch's N(0, 1), whose sum drowns what the first blocks add.
void scale_embeddings(ImageGPT& model, double std) {
  torch::NoGradGuard no_grad;
  for (auto& weights : model->embeddings()) weights.mul_(std);
}

}  // namespace

Trainer::Trainer(const TrainOptions& options, const Hooks& hooks)
    : options_(options), hooks_(hooks), device_(ops::prepare_device(options.device, options.threads, hooks)) {
  check(options_);
  const auto start = starting_checkpoint(options_);
  const auto split = read_training_split(options_, start.has_value(), hooks_);
  hyper_parameters_ = update_settings(options_);

  auto [train, validation] = split_for_validation(make_token_dataset(split), options_.seed);
  train_ = train.to(device_);
  validation_ = validation.to(device_);
  order_.emplace(train_.size(), options_.seed);

  torch::manual_seed(static_cast<uint64_t>(options_.seed));
  model_ = ImageGPT(options_.model);
  scale_embeddings(model_, options_.embedding_std);
  if (start) load_weights(model_, *start);
  model_->to(device_);
  if (options_.ema > 0) average_.emplace(model_, options_.ema);
  parameters_ = model_->parameters();
  adam_.emplace(
      parameters_,
      FlatAdam::Options{.beta1 = options_.beta1, .beta2 = options_.beta2, .weight_decay = options_.weight_decay});
  if (ops::FusedModel::supports(options_.model, device_)) {
    std::string note;
    const auto precision = ops::FusedModel::precision(options_.model, options_.precision == "bf16", &note);
    if (!note.empty() && hooks_.note) hooks_.note(note);
    fused_.emplace(options_.model, /*threads=*/0, precision);
  }
  loss_sum_ = torch::zeros({}, torch::TensorOptions(device_).dtype(torch::kFloat64));

  if (options_.resume.empty()) {
    folder_.emplace(RunFolder::create(options_.log_dir, options_.name));
    folder_->write_hparams(options_.settings);
  } else {
    adam_->load_state(*start->optimizer);
    step_ = start->global_step;
    progress_ = *start->progress;
    adam_->load_weights(std::exchange(progress_.weights, {}));
    loss_sum_.fill_(progress_.train_loss_sum);
    loss_count_ = progress_.train_loss_count;
    folder_.emplace(RunFolder::reopen(options_.resume, step_));
  }
  progress_.settings = options_.settings;
  progress_.total_steps = options_.steps;
  events_ = std::make_unique<formats::EventWriter>(folder_->path());
  describe();
  if (hooks_.note) hooks_.note("seed " + std::to_string(options_.seed) + ", writing to " + folder_->path().string());
}

void Trainer::describe() const {
  if (!hooks_.detail) return;
  hooks_.detail("model: " + std::to_string(adam_->gradients().numel()) +
                " parameters; data: " + std::to_string(train_.size()) + " images to train, " +
                std::to_string(validation_.size()) + " to validate; " +
                (fused_ ? std::string("fused kernels (") + fused_->vectors() + ")" : "LibTorch's kernels"));
}

TrainResult Trainer::run() {
  if (validation_due() && progress_.validated_step < step_) {  // was stopped while validating
    validate();
    save_last();
  }
  while (step_ < options_.steps && !stops_early()) {
    update();
    if (step_ % kLogInterval == 0) log_training();
    if (validation_due()) validate();
    if (validation_due() || checkpoint_due()) save_last();
    stop_if_asked();
  }
  return {folder_->best_checkpoint().string(), folder_->last_checkpoint().string(), progress_.best_step,
          progress_.best_score};
}

void Trainer::update() {
  adam_->zero_grad();
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const int64_t position = (step_ * options_.accumulate + i) * options_.batch_size;
    add_gradients(next_batch(position));
  }
  if (options_.grad_clip) adam_->clip_grad_norm(*options_.grad_clip);
  adam_->step(learning_rate(options_, step_));
  ++step_;
  if (average_) average_->add(adam_->weights(), step_);
  check_loss();
}

TokenDataset Trainer::next_batch(int64_t position) {
  auto batch = train_.select(order_->batch(position, options_.batch_size));
  if (options_.augment.any()) batch.tokens = augment(batch.tokens, options_.augment, options_.seed, position);
  return batch;
}

// Adds the batch's share of the gradients, and its loss to the sum for the log.
void Trainer::add_gradients(const TokenDataset& batch) {
  ++loss_count_;
  if (!fused_) {
    const auto loss = loss_of(batch);
    (options_.accumulate == 1 ? loss : loss / options_.accumulate).backward();
    loss_sum_ += loss.detach().to(torch::kFloat64);
    return;
  }
  loss_sum_ += add_fused_gradients(batch, 1 / static_cast<double>(options_.accumulate));
}

double Trainer::add_fused_gradients(const TokenDataset& batch, double scale) {
  if (!options_.classify) return fused_->add_generative_gradients(batch.tokens, parameters_, scale);
  const double weight = options_.generative_weight;
  const double loss = fused_->add_classifier_gradients(batch.tokens, batch.labels, parameters_, scale);
  return weight == 0 ? loss
                     : loss + weight * fused_->add_generative_gradients(batch.tokens, parameters_, weight * scale);
}

Tensor Trainer::loss_of(const TokenDataset& batch) {
  const ops::Bf16Autocast autocast(device_.type(), options_.precision == "bf16");
  const auto h = model_->features(batch.tokens);  // (B, S, D)
  const auto generative = [&] { return generative_loss(model_->head->forward(h).to(torch::kFloat32), batch.tokens); };
  if (!options_.classify) return generative();
  const auto logits = model_->clf_head->forward(h).to(torch::kFloat32);  // (B, C)
  const auto loss = torch::nn::functional::cross_entropy(logits, batch.labels);
  return options_.generative_weight == 0 ? loss : loss + options_.generative_weight * generative();
}

// The model that is validated, drawn from and saved.
const ImageGPT& Trainer::trained() const {
  return average_ ? average_->model() : model_;
}

// On the CPU every step; on CUDA only where the loss is read anyway, since reading waits for the device.
void Trainer::check_loss() {
  if (device_.is_cuda() && step_ % kLogInterval != 0) return;
  const double sum = loss_sum_.item<double>();
  if (hooks_.progress) {
    char note[32];
    std::snprintf(note, sizeof note, "loss %.4f", sum / static_cast<double>(loss_count_));
    hooks_.progress(options_.steps, step_, note);
  }
  if (std::isfinite(sum)) return;
  const auto last = folder_->last_checkpoint();
  const bool saved = std::filesystem::exists(last);
  throw Error("step " + std::to_string(step_) +
              ": the loss is not finite; start again with a lower --learning_rate or --grad_clip 1" +
              (saved ? ", or from " + last.string() : ""));
}

void Trainer::log_training() {
  Metrics metrics{.step = step_, .epoch = epoch_of(step_)};
  metrics.train_loss = loss_sum_.item<double>() / static_cast<double>(loss_count_);
  metrics.learning_rate = learning_rate(options_, step_ - 1);
  events_->scalar("train_loss", *metrics.train_loss, step_);
  events_->scalar("learning_rate", *metrics.learning_rate, step_);
  folder_->add(metrics);
  if (hooks_.detail) {
    char line[96];
    std::snprintf(line, sizeof line, "step %lld: train_loss %.5f, learning rate %.3g", static_cast<long long>(step_),
                  *metrics.train_loss, *metrics.learning_rate);
    hooks_.detail(line);
  }
  loss_sum_.zero_();
  loss_count_ = 0;
}

void Trainer::validate() {
  ScoringOptions scoring;
  scoring.classify = options_.classify;
  scoring.batch_size = options_.batch_size;
  scoring.bf16 = options_.precision == "bf16";
  scoring.progress = [this](int64_t) { stop_if_asked(); };
  const Score result = score(trained(), validation_, scoring);
  Metrics metrics{.step = step_, .epoch = epoch_of(step_), .val_loss = result.loss};
  events_->scalar("val_loss", result.loss, step_);
  if (options_.classify) {
    metrics.val_acc = result.accuracy;
    events_->scalar("val_acc", result.accuracy, step_);
  } else {
    draw_samples();
  }
  folder_->add(metrics);
  progress_.validated_step = step_;
  const double best_by = options_.classify ? result.accuracy : result.loss;
  const bool is_best = better(best_by);
  progress_.bad_validations = is_best ? 0 : progress_.bad_validations + 1;
  if (is_best) {
    progress_.best_score = best_by;
    progress_.best_step = step_;
    write_checkpoint(folder_->best_checkpoint(), checkpoint());
  }
  if (!hooks_.note) return;
  char line[160];
  std::snprintf(line, sizeof line, "step %lld, epoch %lld: val_loss %.5f", static_cast<long long>(step_),
                static_cast<long long>(metrics.epoch), result.loss);
  std::string text = line;
  std::snprintf(line, sizeof line, ", val_acc %.4f", result.accuracy);
  if (options_.classify) text += line;
  hooks_.note(text + (is_best ? " (best)" : ""));
}

// A grid of images drawn from nothing, for TensorBoard: always the same random numbers, so that the steps compare.
void Trainer::draw_samples() {
  constexpr int64_t kSide = 5;
  std::vector<uint64_t> streams(kSide * kSide);
  std::iota(streams.begin(), streams.end(), 0);
  sampling::SamplingOptions sampling;
  sampling.seed = options_.seed;
  const auto nothing = torch::zeros({kSide * kSide, 0}, torch::kUInt8);
  const auto tokens = sampling::generate(trained(), nothing, streams, sampling,
                                         [this](const sampling::Drawn&) { stop_if_asked(); });  // (25, S)
  const int64_t side = options_.model.num_pixels;
  const auto pixels = model_->quantizer()->decode(tokens.view({kSide, kSide, side, side}));  // (5, 5, h, w, C)
  events_->image("samples", sampling::to_image(sampling::tiled(pixels)), step_);
}

void Trainer::save_last() {
  folder_->publish_metrics();
  write_checkpoint(folder_->last_checkpoint(), checkpoint());
}

Checkpoint Trainer::checkpoint() const {
  Checkpoint result;
  result.model = options_.model;
  result.state_dict = copy_state_dict(trained());
  result.classify = options_.classify;
  result.epoch = epoch_of(step_);
  result.global_step = step_;
  result.hyper_parameters = hyper_parameters_;
  result.optimizer = adam_->state();
  result.progress = progress_;
  result.progress->train_loss_sum = loss_sum_.item<double>();
  result.progress->train_loss_count = loss_count_;
  if (average_)
    for (const auto& weight : parameters_) result.progress->weights.push_back(weight.detach().cpu().clone());
  return result;
}

bool Trainer::validation_due() const {
  if (step_ == 0) return false;
  if (step_ == options_.steps) return true;
  if (options_.val_interval) return step_ % *options_.val_interval == 0;
  return epoch_of(step_) > epoch_of(step_ - 1);
}

bool Trainer::checkpoint_due() const {
  return options_.checkpoint_interval && step_ % *options_.checkpoint_interval == 0;
}

bool Trainer::stops_early() const {
  return options_.classify && progress_.bad_validations >= options_.patience;
}

void Trainer::stop_if_asked() {
  const int signal = hooks_.stop_signal ? hooks_.stop_signal() : 0;
  if (!signal) return;
  save_last();
  if (hooks_.note)
    hooks_.note("stopped after step " + std::to_string(step_) + "; to go on: run train --resume " +
                folder_->last_checkpoint().string());
  throw Interrupted(signal);
}

int64_t Trainer::epoch_of(int64_t step) const {
  return step * options_.accumulate * options_.batch_size / train_.size();
}

bool Trainer::better(double value) const {
  if (progress_.best_step < 0) return true;
  return options_.classify ? value > progress_.best_score : value < progress_.best_score;
}

TrainResult train(const TrainOptions& options, const Hooks& hooks) {
  return Trainer(options, hooks).run();
}

}  // namespace igpt::training
