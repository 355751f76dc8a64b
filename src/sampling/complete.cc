#include <algorithm>
#include <filesystem>
#include <numeric>

#include "igpt/backend/devices.h"
#include "igpt/data/picture.h"
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
  formats::expect_writable(o.output, {o.checkpoint, o.test_x, o.test_y, o.tokens});
  if (!o.tokens.empty()) formats::expect_writable(o.tokens, {o.checkpoint, o.test_x, o.test_y});
  for (const std::string& image : o.images) {
    formats::expect_writable(o.output, {image});
    if (!o.tokens.empty()) formats::expect_writable(o.tokens, {image});
  }
}

int64_t context_rows(const CompletionOptions& options, int64_t side) {
  if (options.unconditional) return 0;
  const int64_t rows = options.context_rows.value_or(side / 2);
  if (rows > side)
    throw UsageError("--context_rows " + std::to_string(rows) + ": must be at most " + std::to_string(side) +
                     ", the rows of the model's images");
  return rows;
}

void check_figure(const CompletionOptions& options, int64_t examples, int64_t side) {
  constexpr double most = 1 << 28;
  const auto scaled = static_cast<double>(scaled_side(side, options.scale));
  const auto columns = static_cast<double>(options.num_samples + (options.unconditional ? 0 : 2));
  if (static_cast<double>(examples) * scaled * columns * scaled > most)
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

data::Split read_images(const CompletionOptions& options, const Checkpoint& checkpoint, bool with_labels,
                        const Hooks& hooks) {
  std::error_code ignored;
  if (checkpoint.model.conditional && !std::filesystem::exists(options.test_x, ignored))
    throw InputError(options.test_x +
                     ": no such file, and the images to complete come from it; --unconditional draws whole images of "
                     "the classes, --image completes your own, and --data_dir names the folder of test images");
  auto split = data::read_split(
      options.test_x, with_labels ? options.test_y : "",
      expected_images(checkpoint, options.checkpoint, "give it images of the model's size with --data_dir or --test_x"),
      [&] { throw_if_stopped(hooks); }, hooks.note);
  for (const auto& note : {note_on_dataset(checkpoint, options.checkpoint, split, options.test_x),
                           note_on_palette(checkpoint, options.checkpoint, split, options.test_x)})
    if (hooks.note && !note.empty()) hooks.note(note);
  return split;
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

// The user's own pictures, (E, h, w).
Tensor read_pictures(const CompletionOptions& options, const Checkpoint& checkpoint, int64_t side, const Hooks& hooks) {
  const data::Palette palette = palette_in(checkpoint, options.checkpoint);
  std::vector<Tensor> pictures;
  for (const std::string& image : options.images) {
    throw_if_stopped(hooks);
    const auto tokens = data::read_picture(image, palette, side);
    const std::vector<int64_t> wide(tokens.begin(), tokens.end());
    pictures.push_back(torch::tensor(wide).view({side, side}));
  }
  return torch::stack(pictures);
}

// The classes of an image's samples, in turn.
std::vector<int64_t> for_each_image(const std::vector<int64_t>& of_image, int64_t images) {
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < images; ++i) classes.insert(classes.end(), of_image.begin(), of_image.end());
  return classes;
}

// The labels of the test images at `indices`.
std::vector<int64_t> own_classes(const CompletionOptions& options, const Checkpoint& checkpoint,
                                 const data::Split& split, const std::vector<int64_t>& indices) {
  std::vector<int64_t> own;
  for (const int64_t index : indices) own.push_back(split.labels[static_cast<size_t>(index)]);
  for (const int64_t label : own)
    if (label >= checkpoint.model.num_classes)
      throw InputError(options.test_y + ": holds the label " + std::to_string(label) + ", and " + options.checkpoint +
                       " has " + std::to_string(checkpoint.model.num_classes) + " classes; choose them with --class");
  return own;
}

// The images to complete, (E, h, w), with the samples' classes; of test images the indices are told.
Tensor read_originals(const CompletionOptions& options, const Checkpoint& checkpoint, int64_t side,
                      CompletionResult& chosen, const Hooks& hooks) {
  const auto classes = [&](const std::vector<int64_t>& asked, int64_t images, int64_t times) {
    return classes_of(checkpoint, options.checkpoint, asked, images, times,
                      options.unconditional ? "--num_examples" : "--num_samples");
  };
  const int64_t samples = options.num_samples;
  const bool asked = !options.classes.empty(), needs_classes = checkpoint.model.conditional && !asked;
  if (options.unconditional) {
    chosen.classes = classes(options.classes, options.num_examples * samples, /*times=*/samples);
    return torch::zeros({options.num_examples, side, side}, torch::kInt64);  // none
  }
  const std::vector<int64_t> of_image = classes(options.classes, samples, /*times=*/1);
  if (!options.images.empty()) {
    if (needs_classes)
      throw UsageError("--image: " + options.checkpoint + " has to be told the class; choose it with --class");
    chosen.classes = for_each_image(of_image, static_cast<int64_t>(options.images.size()));
    return read_pictures(options, checkpoint, side, hooks);
  }
  const data::Split split = read_images(options, checkpoint, needs_classes, hooks);
  chosen.indices = chosen_images(options, split.count);
  const auto count = static_cast<int64_t>(chosen.indices.size());
  chosen.classes = needs_classes ? classes(own_classes(options, checkpoint, split, chosen.indices), count * samples,
                                           /*times=*/samples)
                                 : for_each_image(of_image, count);
  return select(split, chosen.indices, side);
}

// Sample k of test image (or picture) i has a stream of its own, whatever else is drawn. Images that are drawn from
// nothing are counted.
std::vector<uint64_t> streams_of(const CompletionOptions& options, std::vector<int64_t> indices, int64_t examples) {
  const int64_t num_samples = options.num_samples;
  std::vector<uint64_t> streams;
  if (options.unconditional) {
    streams.resize(static_cast<size_t>(examples * num_samples));
    std::iota(streams.begin(), streams.end(), uint64_t{0});
    return streams;
  }
  if (indices.empty()) {
    indices.resize(static_cast<size_t>(examples));
    std::iota(indices.begin(), indices.end(), int64_t{0});
  }
  for (const int64_t index : indices)
    for (int64_t k = 0; k < num_samples; ++k)
      streams.push_back(static_cast<uint64_t>(index) << 32 | static_cast<uint64_t>(k));
  return streams;
}

// (E, h, w) originals -> (E, K, h, w) samples.
Tensor draw(const CompletionOptions& options, const ImageGPT& model, const Tensor& originals,
            const CompletionResult& chosen, const Hooks& hooks) {
  const auto context =
      originals.narrow(1, 0, chosen.context_rows).flatten(1).repeat_interleave(options.num_samples, /*dim=*/0);
  const auto streams = streams_of(options, chosen.indices, originals.size(0));
  return draw_images(model, context, streams, chosen.classes, options.sampling, options.precision, options.checkpoint,
                     hooks)
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
  const auto originals = read_originals(options, checkpoint, side, chosen, hooks);  // (E, h, w)
  check_figure(options, originals.size(0), side);
  check_writable(options);

  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  const ImageGPT model = prepare_model(checkpoint, device, hooks);
  const auto samples = draw(options, model, originals, chosen, hooks);  // (E, K, h, w)
  const auto figure = [&](double scale) {
    return options.unconditional ? samples_figure(model->palette(), samples, scale)
                                 : completion_figure(model->palette(), originals, samples, chosen.context_rows, scale);
  };
  formats::AtomicFile file(options.output);  // replaced when the tokens are written too
  file.write(formats::encode_png(figure(options.scale)));
  if (!options.tokens.empty()) write_tokens(options.tokens, samples.flatten(0, 1), model->options().num_vocab);
  file.publish();
  chosen.figure = figure(/*scale=*/1);
  chosen.side = side;
  return chosen;
}

}  // namespace igpt::sampling
