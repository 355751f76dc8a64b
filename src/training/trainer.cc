#include "trainer.h"

#include <cmath>
#include <numeric>
#include <span>

#include "igpt/error.h"
#include "igpt/ops/device.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "igpt/stop_signals.h"
#include "igpt/training/schedule.h"
#include "memory_plan.h"
#include "ranks.h"
#include "start.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kLogInterval = 50;  // steps between rows of the training loss

// Which of kStopSignals a process got, as numbers that ranks add up.
std::vector<double> as_counts(int stop_signal) {
  std::vector<double> counts;
  for (const auto& [number, name] : kStopSignals) counts.push_back(number == stop_signal ? 1 : 0);
  return counts;
}

// The signal that all stop for, from how many got each.
int stop_signal_of(std::span<const double> counts) {
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    if (counts[i] > 0) return kStopSignals[i].number;
  return 0;
}

// Rank 0 alone tells how the work goes.
Hooks hooks_of_rank(const Hooks& hooks, const DistributedContext& launch) {
  if (launch.rank == 0) return hooks;
  Hooks quiet;
  quiet.stop_signal = hooks.stop_signal;
  return quiet;
}

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
    : options_(options),
      hooks_(hooks_of_rank(hooks, options.launch)),
      device_(ops::prepare_device(options.device, threads_of_rank(options), hooks_, options.launch.local_rank)),
      group_(
          options.launch, device_, [this] { throw_if_stopped(hooks_); }, hooks_.note) {
  check(options_);
  agree_on_options(options_, group_);
  const int64_t free_memory = ops::available_memory(device_);
  continue_restarted_run();
  const auto start = starting_checkpoint(options_);
  expect_model_fits(options_, ops::most_memory(device_));
  const auto split = read_training_split(options_, start, hooks_);
  hyper_parameters_ = settings_of(options_);
  dataset_ = dataset_of(split);
  if (dataset_.empty() && !options_.resume.empty()) dataset_ = start->dataset;  // of the same images
  train_sha256_ = data::fingerprint(split);

  const auto dataset = make_token_dataset(split);
  agree_on_data(dataset, options_, group_);
  if (start) check_images(options_, *start, split, train_sha256_, hooks_);
  auto [train, validation] = split_for_validation(dataset, options_.seed);
  train_ = train.to(device_);
  validation_ = validation.to(device_);

  torch::manual_seed(static_cast<uint64_t>(options_.seed));
  model_ = ImageGPT(options_.model);
  scale_embeddings(model_, options_.embedding_std);
  if (start) load_weights(model_, *start);
  model_->to(device_);
  for (const auto& parameter : model_->parameters()) group_.copy_from_first(parameter.detach());
  if (options_.ema > 0) average_.emplace(model_, options_.ema);
  parameters_ = model_->parameters();
  adam_.emplace(
      parameters_,
      FlatAdam::Options{.beta1 = options_.beta1, .beta2 = options_.beta2, .weight_decay = options_.weight_decay});
  loss_sum_ = torch::zeros({}, torch::TensorOptions(device_).dtype(torch::kFloat64));
  step_loss_ = torch::zeros_like(loss_sum_);
  const UpdateState state{model_, train_, &*adam_, average_ ? &*average_ : nullptr, step_loss_, loss_sum_};
  update_.emplace(options_, state, hooks_);
  if (!update_->kernels()) {
    const auto plan = plan_memory(options_, place_of_batch(options_, 0, 0).size, train_.bytes() + validation_.bytes());
    model_->set_activation_checkpointing(choose_activation_checkpointing(options_, plan, free_memory, hooks_));
  }
  device_update_ = DeviceUpdate::make(options_, state, *update_, hooks_);

  if (!options_.resume.empty()) {
    adam_->load_state(*start->optimizer);
    step_ = start->global_step;
    progress_ = *start->progress;
    tell_new_rate();
    adam_->load_weights(std::exchange(progress_.weights, {}));
    loss_sum_.fill_(progress_.train_loss_sum);
    loss_count_ = progress_.train_loss_count;
  }
  progress_.total_steps = options_.steps;
  open_folder();
  last_look_ = step_;
  last_look_time_ = std::chrono::steady_clock::now();
  describe();
  if (hooks_.note) hooks_.note("seed " + std::to_string(options_.seed) + ", writing to " + folder_->path().string());
}

// A job that its launcher started again goes on with the run that it was at, from its last checkpoint if there is one.
void Trainer::continue_restarted_run() {
  if (options_.launch.job.empty()) return;
  std::string run, last;
  if (group_.is_first()) {
    run = job_record().run().string();
    last = (std::filesystem::path(run) / "checkpoints" / "last.ckpt").string();
    if (run.empty() || !std::filesystem::exists(last)) last.clear();
  }
  restarted_ = group_.from_first(run);
  last = group_.from_first(last);
  if (last.empty()) return;
  options_.resume = last;
  for (const auto& [name, text] : settings_of_run(last))
    if (name == "seed") options_.seed = std::stoll(text);
  if (hooks_.note) hooks_.note("started again: going on from " + last);
}

// A number of steps other than the checkpoint's moves the schedule: the rate may jump.
void Trainer::tell_new_rate() const {
  TrainOptions before = options_;
  before.steps = progress_.total_steps;
  const double old_rate = learning_rate(before, step_), rate = learning_rate(options_, step_);
  if (!hooks_.note || step_ >= options_.steps || rate == old_rate) return;
  char line[160];
  std::snprintf(line, sizeof line,
                "--steps %lld, before %lld: the learning rate goes on at %.3g, not at %.3g, and falls to zero again",
                static_cast<long long>(options_.steps), static_cast<long long>(before.steps), rate, old_rate);
  hooks_.note(line);
}

// Beside the run's folder. A resumed run's is where its checkpoint lies, whatever that says of itself.
JobRecord Trainer::job_record() const {
  namespace fs = std::filesystem;
  if (options_.resume.empty()) return {options_.launch, fs::path(options_.log_dir) / options_.name};
  return {options_.launch, fs::absolute(RunFolder::path_of(options_.resume)).parent_path()};
}

// Rank 0's folder; the others know where it is.
void Trainer::open_folder() {
  if (group_.is_first()) {
    const auto checkpoint =
        options_.resume.empty() ? restarted_ / "checkpoints" / "last.ckpt" : std::filesystem::path(options_.resume);
    const bool begins = options_.resume.empty() && restarted_.empty();
    // The process that the launcher has started this one for may still be ending.
    const std::chrono::seconds patience(restarted_.empty() ? 0 : 10);
    folder_.emplace(begins ? RunFolder::create(options_.log_dir, options_.name, hooks_.note)
                           : RunFolder::reopen(checkpoint, step_, hooks_.note, patience));
    if (options_.resume.empty()) folder_->write_hparams(hyper_parameters_);
    job_record().remember(folder_->path());
    events_ = std::make_unique<formats::EventWriter>(folder_->path());
    if (!begins) events_->restart(step_ + 1);
  }
  const auto path = group_.from_first(folder_ ? folder_->path().string() : "");
  if (!folder_) folder_.emplace(RunFolder::of_another_process(path));
}

void Trainer::describe() const {
  if (hooks_.note && options_.batch_size > train_.size())
    hooks_.note("--batch_size " + std::to_string(options_.batch_size) + " is more than the " +
                std::to_string(train_.size()) +
                " images to train: a batch has some of them more than once, and every " +
                (options_.val_interval ? "step ends an epoch" : "step ends an epoch and is followed by a validation"));
  if (!hooks_.detail) return;
  hooks_.detail("model: " + std::to_string(adam_->gradients().numel()) +
                " parameters; data: " + std::to_string(train_.size()) + " images to train, " +
                std::to_string(validation_.size()) + " to validate; " +
                (device_update_       ? "the device's own kernels"
                 : update_->kernels() ? std::string("fused kernels (") + update_->kernels() + ")"
                                      : "LibTorch's kernels") +
                (group_.alone() ? "" : "; " + std::to_string(group_.size()) + " processes"));
}

TrainResult Trainer::run() {
  try {
    expect_identical_ranks();
    loop();
    group_.wait_for_all();  // rank 0 may be the one through which the others would hear of each other
  } catch (const RanksLost& error) {
    if (const int signal = own_stop_signal()) throw Interrupted(signal);
    const auto last = folder_->last_checkpoint();
    throw Error(error.what() +
                (std::filesystem::exists(last) ? "; to go on: run train --resume " + last.string() : std::string()));
  }
  return {.best_checkpoint = folder_->best_checkpoint().string(),
          .last_checkpoint = folder_->last_checkpoint().string(),
          .best_step = progress_.best_step,
          .best_score = progress_.best_score,
          .last_step = step_,
          .stopped_early = stops_early() && step_ < options_.steps,
          .bad_validations = progress_.bad_validations};
}

void Trainer::loop() {
  const bool finished = !options_.resume.empty() && step_ >= options_.steps && progress_.validated_step == step_;
  if (finished && hooks_.note)
    hooks_.note("nothing is left to train: the run is at step " + std::to_string(step_) + " of " +
                std::to_string(options_.steps) + "; a larger --steps goes on");
  if (validation_due() && progress_.validated_step < step_) {  // was stopped while validating
    validate();
    save_last();
  }
  while (step_ < options_.steps && !stops_early()) {
    update();
    finish_row();  // while the device computes that update
    if (step_ % kLogInterval == 0 || validation_due()) begin_row();
    if (reads_every_loss()) finish_row();
    if (validation_due()) validate();
    if (validation_due() || checkpoint_due()) save_last();
    if (group_.alone()) signal_ = own_stop_signal();
    stop_if_asked();
  }
  if (stops_early() && step_ < options_.steps) tell_early_stop();
}

void Trainer::tell_early_stop() const {
  if (!hooks_.note) return;
  char best[64];
  std::snprintf(best, sizeof best, "%.4f at step %lld", progress_.best_score,
                static_cast<long long>(progress_.best_step));
  hooks_.note("stopped early after step " + std::to_string(step_) + " of " + std::to_string(options_.steps) +
              ": val_acc has not improved on " + best + " for " + std::to_string(progress_.bad_validations) +
              (progress_.bad_validations == 1 ? " validation" : " validations") +
              " (--patience); to go on: run train --resume " + folder_->last_checkpoint().string() +
              " with a larger --patience");
}

// An update from this rank's share of each batch, and everybody else's.
void Trainer::update() {
  const bool on_device = device_update_ && device_update_->run(step_);
  if (!on_device) update_->compute_gradients(step_);
  if (!group_.alone()) sum_over_ranks();
  if (!on_device || !group_.alone()) update_->apply(step_);
  loss_count_ += options_.accumulate;
  ++step_;
  if (reads_every_loss()) check_loss(step_, loss_sum_.item<double>(), loss_count_);
}

// One reduction: of the gradients, and behind them the loss, who was asked to stop, and how many updates later all look
// at this again. Every update on the CPU; on CUDA, where reading waits for the device, about once a second.
void Trainer::sum_over_ranks() {
  using std::chrono::steady_clock;
  double interval = 1;
  if (device_.is_cuda() && step_ > last_look_) {
    const std::chrono::duration<double> since = steady_clock::now() - last_look_time_;
    interval = std::clamp(static_cast<double>(step_ - last_look_) / since.count(), 1.0, double{kLogInterval});
  }
  auto message = adam_->message();  // loss, interval, counts of stop signals
  static_assert(FlatAdam::kMessage == 2 + kStopSignals.size());
  auto words = as_counts(own_stop_signal());
  words.insert(words.begin(), group_.is_first() ? interval : 0);
  message[0].copy_(step_loss_);
  message.narrow(0, 1, FlatAdam::kMessage - 1).copy_(torch::tensor(words, torch::kFloat32));
  group_.sum(adam_->reduced());
  step_loss_.copy_(message[0]);
  if (step_ < next_look_) return;
  const auto heard = message.to(torch::kCPU, torch::kFloat64);
  group_.check();
  signal_ = stop_signal_of({heard.const_data_ptr<double>() + 2, kStopSignals.size()});
  next_look_ = step_ + std::max<int64_t>(1, heard[1].item<int64_t>());
  last_look_ = step_;
  last_look_time_ = steady_clock::now();
}

void Trainer::expect_identical_ranks() {
  if (group_.alone()) return;
  std::vector<Tensor> state{adam_->weights(), adam_->exp_avg(), adam_->exp_avg_sq()};
  if (average_) state.push_back(average_->weights());
  expect_identical(state, step_, group_);
}

// The model that is validated, drawn from and saved.
const ImageGPT& Trainer::trained() const {
  return average_ ? average_->model() : model_;
}

// On the CPU after every update; elsewhere only with a row, since reading waits for the device.
void Trainer::check_loss(int64_t step, double sum, int64_t count) {
  group_.check();
  if (hooks_.progress) {
    char note[32];
    std::snprintf(note, sizeof note, "loss %.4f", sum / static_cast<double>(count));
    hooks_.progress(options_.steps, step, note);
  }
  expect_finite(sum, "loss", step);
}

void Trainer::expect_finite(double loss, const char* which, int64_t step) const {
  if (std::isfinite(loss)) return;
  const auto last = folder_->last_checkpoint();
  const bool saved = std::filesystem::exists(last);
  throw Error("step " + std::to_string(step) + ": the " + which +
              " is not finite; start again with a lower --learning_rate or --grad_clip 1" +
              (saved ? ", or from " + last.string() : ""));
}

void Trainer::begin_row() {
  row_ = {step_, loss_count_, LateReading(loss_sum_)};
  loss_sum_.zero_();
  loss_count_ = 0;
}

void Trainer::finish_row() {
  if (!row_) return;
  const Row row = *std::exchange(row_, std::nullopt);
  const double sum = row.sum.get();
  if (!reads_every_loss()) check_loss(row.step, sum, row.batches);
  Metrics metrics{.step = row.step, .epoch = epoch_of(row.step)};
  metrics.train_loss = sum / static_cast<double>(row.batches);
  metrics.learning_rate = learning_rate(options_, row.step - 1);
  if (group_.is_first()) {
    events_->scalar("train_loss", *metrics.train_loss, row.step);
    events_->scalar("learning_rate", *metrics.learning_rate, row.step);
    folder_->add(metrics);
  }
  if (hooks_.detail) {
    char line[96];
    std::snprintf(line, sizeof line, "step %lld: train_loss %.5f, learning rate %.3g", static_cast<long long>(row.step),
                  *metrics.train_loss, *metrics.learning_rate);
    hooks_.detail(line);
  }
}

// The score of the validation images, of which each rank takes its share, in as many batches as the others.
Score Trainer::score_validation() {
  const auto [begin, end] = group_.share(validation_.size());
  const TokenDataset images{validation_.tokens.slice(0, begin, end), validation_.labels.slice(0, begin, end)};
  int64_t batches = 0;
  const auto after_batch = [&] {
    ++batches;
    agree_on_stop();
    stop_if_asked();
  };
  ScoringOptions scoring;
  scoring.classify = options_.classify;
  scoring.batch_size = (options_.batch_size + group_.size() - 1) / group_.size();
  scoring.bf16 = options_.precision == "bf16";
  scoring.progress = [&](int64_t) { after_batch(); };
  scoring.note = hooks_.note;
  Score own;
  if (images.size() > 0) own = score(trained(), images, scoring);
  if (group_.alone()) return own;
  const int64_t largest = (validation_.size() + group_.size() - 1) / group_.size();
  while (batches < (largest + scoring.batch_size - 1) / scoring.batch_size) after_batch();
  const auto count = static_cast<double>(own.count);
  const auto sums = group_.sum({own.loss * count, std::round(own.accuracy * count)});
  const auto total = static_cast<double>(validation_.size());
  return {validation_.size(), sums[0] / total, sums[1] / total};
}

void Trainer::validate() {
  finish_row();
  expect_identical_ranks();
  const Score result = score_validation();
  expect_finite(result.loss, "validation loss", step_);
  Metrics metrics{.step = step_, .epoch = epoch_of(step_), .val_loss = result.loss};
  if (options_.classify) metrics.val_acc = result.accuracy;
  std::optional<formats::Image> samples;
  if (group_.is_first() && !options_.classify && options_.sample_grid > 0) samples = draw_samples();
  agree_on_stop();
  stop_if_asked();  // before anything is logged: a resumed run validates here again
  if (group_.is_first()) {
    folder_->add(metrics);
    events_->scalar("val_loss", result.loss, step_);
    if (options_.classify) events_->scalar("val_acc", result.accuracy, step_);
    if (samples) events_->image("samples", *samples, step_);
  }
  progress_.validated_step = step_;
  const double best_by = options_.classify ? result.accuracy : result.loss;
  const bool is_best = better(best_by);
  progress_.bad_validations = is_best ? 0 : progress_.bad_validations + 1;
  if (is_best) {
    progress_.best_score = best_by;
    progress_.best_step = step_;
    if (group_.is_first()) write_checkpoint(folder_->best_checkpoint(), checkpoint());
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

// A grid of images drawn from nothing, for TensorBoard: always the same random numbers, so that the steps compare. Ends
// early, without it, when asked to stop.
std::optional<formats::Image> Trainer::draw_samples() try {
  const int64_t grid = options_.sample_grid;
  std::vector<uint64_t> streams(grid * grid);
  std::iota(streams.begin(), streams.end(), 0);
  sampling::SamplingOptions sampling;
  sampling.seed = options_.seed;
  const auto nothing = torch::zeros({grid * grid, 0}, torch::kUInt8);
  const auto stop = [this](const sampling::Drawn&) {
    if (const int signal = own_stop_signal()) throw Interrupted(signal);
  };
  const auto tokens = sampling::generate(trained(), nothing, streams, sampling, stop, hooks_.note);  // (grid^2, S)
  const int64_t side = options_.model.num_pixels;
  const auto pixels = model_->quantizer()->decode(tokens.view({grid, grid, side, side}));  // (grid, grid, h, w, C)
  return sampling::to_image(sampling::tiled(pixels));
} catch (const Interrupted&) {
  return {};
}

void Trainer::save_last() {
  finish_row();
  expect_identical_ranks();
  if (!group_.is_first()) return;
  folder_->flush_metrics();
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
  result.dataset = dataset_;
  result.train_sha256 = train_sha256_;
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

// The signal that this process got, from then on.
int Trainer::own_stop_signal() {
  if (own_signal_ == 0 && hooks_.stop_signal) own_signal_ = hooks_.stop_signal();
  return own_signal_;
}

// All stop at the same place, for a signal that any of them got.
void Trainer::agree_on_stop() {
  const int own = own_stop_signal();
  signal_ = group_.alone() ? own : stop_signal_of(group_.sum(as_counts(own)));
}

void Trainer::stop_if_asked() {
  if (signal_ == 0) return;
  save_last();
  group_.wait_for_all();  // a launcher that sees one end may end the others, rank 0 while it saves
  if (hooks_.note)
    hooks_.note("stopped after step " + std::to_string(step_) + "; to go on: run train --resume " +
                folder_->last_checkpoint().string());
  throw Interrupted(signal_);
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
