#include "igpt/training/train_options.h"

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/utf8.h"
#include "igpt/training/run_folder.h"

namespace igpt::training {

void check(const TrainOptions& options) {
  check_run_name(options.name);
  for (const auto& [name, value] : settings_of(options))
    if (const auto* text = std::get_if<std::string>(&value); text && !formats::is_utf8(*text))
      throw UsageError(
          "--" + name + " " + formats::printable(*text) +
          ": is not UTF-8, as which checkpoints store the options; take another name, or rename the folder");
  igpt::check(options.model);
  // The settings of a resumed run and its hparams.yaml name every option.
  const auto is_only_for = [&](const char* option, const std::string& its_place) {
    if (options.resume.empty())
      throw UsageError("--" + std::string(option) + ": is for " + its_place +
                       "; leave it out, on the command line and in a --config file");
  };
  const auto needs_neighbours = [&](const char* option, int64_t value, int64_t unless) {
    if (value != unless && shape_of(options.model).neighbours == 0 && options.pretrained.empty())
      is_only_for(
          option,
          "--arch " + in_words(architecture_names([](const Architecture& a) { return a.properties.neighbours > 0; })));
  };
  const ImageGPTOptions plain;
  needs_neighbours("neighbours", options.model.neighbours, plain.neighbours);
  needs_neighbours("table_rank", options.model.table_rank, plain.table_rank);
  needs_neighbours("conv_taps", options.model.conv_taps, plain.conv_taps);
  if (!images_read(options, options.steps))
    throw UsageError("--steps " + std::to_string(options.steps) + ": reads more images than can be counted");
  if (options.augment.shift >= options.model.num_pixels)
    throw UsageError("--augment_shift " + std::to_string(options.augment.shift) +
                     ": must be less than the images' side, " + std::to_string(options.model.num_pixels));
  if (options.muon_momentum != TrainOptions{}.muon_momentum && options.optimizer != "muon")
    is_only_for("muon_momentum", "--optimizer muon");
  if (options.patience && !options.classify)
    is_only_for("patience", "--classify, since a generative training does not stop early");
  if (options.model.conditional && options.classify)
    throw UsageError("--conditional: a classifier must not be told the class; leave out --classify, or --conditional");
  if (options.hold != TrainOptions{}.hold && options.schedule == "constant")
    is_only_for("hold", "--schedule cosine or linear, since a constant rate never falls");
  if (options.generative_weight != TrainOptions{}.generative_weight && !options.classify)
    is_only_for("generative_weight", "--classify, since without it the loss is the generative one anyway");
}

std::optional<int64_t> images_read(const TrainOptions& options, int64_t steps) {
  const auto batches = formats::checked_multiply(steps, options.accumulate);
  return batches ? formats::checked_multiply(*batches, options.batch_size) : std::nullopt;
}

FieldValues settings_of(const TrainOptions& options) {
  return values_of(options, [](const Attributes& attributes) { return attributes.of_run; });
}

}  // namespace igpt::training
