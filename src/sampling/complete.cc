#include <algorithm>

#include "igpt/backend/devices.h"
#include "igpt/data/shuffle.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/npy.h"
#include "igpt/formats/png.h"
#include "igpt/sampling/complete.h"
#include "igpt/sampling/figure.h"
#include "src/sampling/draw_images.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

void check_writable(const CompletionOptions& o) {
  formats::expect_writable(o.output, {o.checkpoint, o.test_x, o.tokens});
  if (!o.tokens.empty()) formats::expect_writable(o.tokens, {o.checkpoint, o.test_x});
}

int64_t context_rows(const CompletionOptions& options, int64_t side) {
  const int64_t rows = options.context_rows.value_or(side / 2);
  if (rows > side)
    throw UsageError("--context_rows " + std::to_string(rows) + ": must be at most " + std::to_string(side) +
                     ", the rows of the model's images");
  return rows;
}

void check_picture(const CompletionOptions& options, size_t examples, int64_t side) {
  constexpr double most = 1 << 28;
  const auto scaled = static_cast<double>(scaled_side(side, options.scale));
  if (static_cast<double>(examples) * scaled * static_cast<double>(options.num_samples + 2) * scaled > most)
    throw UsageError("--scale " + to_text(options.scale) + ": the figure would be too large; take a smaller --scale");
}

std::vector<int64_t> chosen_images(const CompletionOptions& options, int64_t count) {
  if (options.indices.empty()) {
    if (options.num_examples > count)
      throw UsageError("--num_examples " + std::to_string(options.num_examples) + ": " + options.test_x + " has only " +
                       std::to_string(count) + " images");
    auto indices = data::shuffled_indices(count, options.sampling.seed, /*stream=*/0);
    indices.resize(static_cast<size_t>(options.num_examples));
    return indices;
  }
  for (const int64_t index : options.indices)
    if (index >= count)
      throw UsageError("--indices " + std::to_string(index) + ": must be at most " + std::to_string(count - 1) + "; " +
                       options.test_x + " has " + std::to_string(count) + " images");
  return options.indices;
}

data::Split read_images(const CompletionOptions& options, const Checkpoint& checkpoint, const Hooks& hooks) {
  const bool with_labels = checkpoint.model.conditional && options.classes.empty();
  auto split = data::read_split(
      options.test_x, with_labels ? options.test_y : "",
      expected_images(checkpoint, options.checkpoint, "give it images of the model's size with --data_dir or --test_x"),
      [&] { throw_if_stopped(hooks); }, hooks.note);
  for (const auto& note : {note_on_dataset(checkpoint, options.checkpoint, split, options.test_x),
                           note_on_palette(checkpoint, options.checkpoint, split, options.test_x)})
    if (hooks.note && !note.empty()) hooks.note(note);
  return split;
}

// The class of each sample; empty where the model has no start token for each class.
std::vector<int64_t> classes_of_samples(const CompletionOptions& options, const Checkpoint& checkpoint,
                                        const data::Split& split, const std::vector<int64_t>& indices) {
  if (!checkpoint.model.conditional || !options.classes.empty()) {
    const auto of_image = classes_of(checkpoint, options.checkpoint, options.classes, options.num_samples, /*times=*/1);
    std::vector<int64_t> classes;
    for (size_t i = 0; i < indices.size(); ++i) classes.insert(classes.end(), of_image.begin(), of_image.end());
    return classes;
  }
  std::vector<int64_t> own;
  for (const int64_t index : indices) own.push_back(split.labels[static_cast<size_t>(index)]);
  const int64_t images = static_cast<int64_t>(own.size()) * options.num_samples;
  for (const int64_t label : own)
    if (label >= checkpoint.model.num_classes)
      throw InputError(options.test_y + ": holds the label " + std::to_string(label) + ", and " + options.checkpoint +
                       " has " + std::to_string(checkpoint.model.num_classes) + " classes; choose them with --class");
  return classes_of(checkpoint, options.checkpoint, own, images, options.num_samples);
}

// The images at `indices`, (E, h, w).
Tensor select(const data::Split& split, const std::vector<int64_t>& indices, int64_t side) {
  return std::visit(
      [&](const auto& tokens) {
        using T = typename std::decay_t<decltype(tokens)>::value_type;
        const auto all = torch::from_blob(const_cast<T*>(tokens.data()), {split.count, side, side},
                                          torch::CppTypeToScalarType<T>::value);  // (N, h, w), the split's memory
        return all.index_select(0, torch::tensor(indices));
      },
      split.tokens);
}

// Sample k of test image i has a stream of its own, whatever else is drawn.
std::vector<uint64_t> streams_of(const std::vector<int64_t>& indices, int64_t num_samples) {
  std::vector<uint64_t> streams;
  for (const int64_t index : indices)
    for (int64_t k = 0; k < num_samples; ++k)
      streams.push_back(static_cast<uint64_t>(index) << 32 | static_cast<uint64_t>(k));
  return streams;
}

// (E, h, w) originals -> (E, K, h, w) samples.
Tensor draw(const CompletionOptions& options, const ImageGPT& model, const Tensor& originals,
            const CompletionResult& chosen, const std::vector<int64_t>& classes, const Hooks& hooks) {
  const auto context =
      originals.narrow(1, 0, chosen.context_rows).flatten(1).repeat_interleave(options.num_samples, /*dim=*/0);
  const auto streams = streams_of(chosen.indices, options.num_samples);
  return draw_images(model, context, streams, classes, options.sampling, options.precision, options.checkpoint, hooks)
      .view({originals.size(0), options.num_samples, originals.size(1), originals.size(2)});
}

void write_tokens(const std::string& path, const Tensor& tokens, int64_t num_vocab) {
  const auto shape = tokens.sizes().vec();
  const auto count = static_cast<size_t>(tokens.numel());
  if (num_vocab > 256) {
    const auto indices = tokens.to(torch::kUInt16);
    formats::write_npy(path, shape, std::span<const uint16_t>(indices.data_ptr<uint16_t>(), count));
  } else {
    const auto bytes = tokens.to(torch::kUInt8);
    formats::write_npy(path, shape, std::span<const uint8_t>(bytes.data_ptr<uint8_t>(), count));
  }
}

}  // namespace

CompletionResult complete(const CompletionOptions& options, const Hooks& hooks) {
  const Checkpoint checkpoint = read_checkpoint(options.checkpoint);
  require_palette(checkpoint, options.checkpoint);
  require_head(checkpoint, options.checkpoint);
  const int64_t side = checkpoint.model.num_pixels;
  CompletionResult chosen;
  chosen.context_rows = context_rows(options, side);
  const data::Split split = read_images(options, checkpoint, hooks);
  chosen.indices = chosen_images(options, split.count);
  const auto classes = classes_of_samples(options, checkpoint, split, chosen.indices);
  check_picture(options, chosen.indices.size(), side);
  check_writable(options);

  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  const ImageGPT model = prepare_model(checkpoint, device, hooks);
  const auto originals = select(split, chosen.indices, side);                    // (E, h, w)
  const auto samples = draw(options, model, originals, chosen, classes, hooks);  // (E, K, h, w)
  formats::AtomicFile figure(options.output);  // replaced when the tokens are written too
  figure.write(
      formats::encode_png(completion_figure(model->palette(), originals, samples, chosen.context_rows, options.scale)));
  if (!options.tokens.empty()) write_tokens(options.tokens, samples.flatten(0, 1), model->options().num_vocab);
  figure.publish();
  return chosen;
}

}  // namespace igpt::sampling
