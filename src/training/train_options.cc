#include "igpt/training/train_options.h"

#include "igpt/error.h"
#include "igpt/formats/checked.h"
#include "igpt/training/run_folder.h"

namespace igpt::training {

void check(const TrainOptions& options) {
  check_run_name(options.name);
  igpt::check(options.model);
  // The settings of a resumed run and its hparams.yaml name every option.
  if (options.model.neighbours != ImageGPTOptions{}.neighbours && shape_of(options.model).neighbours == 0 &&
      options.resume.empty() && options.pretrained.empty())
    throw UsageError("--neighbours: is for --arch " +
                     in_words(architecture_names([](const Architecture& a) { return a.properties.neighbours > 0; })));
  if (!images_read(options, options.steps))
    throw UsageError("--steps " + std::to_string(options.steps) + ": reads more images than can be counted");
  if (options.augment.shift >= options.model.num_pixels)
    throw UsageError("--augment_shift " + std::to_string(options.augment.shift) +
                     ": must be less than the images' side, " + std::to_string(options.model.num_pixels));
  if (options.muon_momentum != TrainOptions{}.muon_momentum && options.optimizer != "muon" && options.resume.empty())
    throw UsageError("--muon_momentum: is for --optimizer muon");
  if (options.patience && !options.classify && options.resume.empty())
    throw UsageError("--patience: is for --classify; a generative training does not stop early");
  if (options.model.conditional && options.classify)
    throw UsageError("--conditional: a classifier must not be told the class; leave out --classify, or --conditional");
  if (options.hold != TrainOptions{}.hold && options.schedule == "constant" && options.resume.empty())
    throw UsageError("--hold: is for --schedule cosine or linear; a constant rate never falls");
  if (options.generative_weight != TrainOptions{}.generative_weight && !options.classify && options.resume.empty())
    throw UsageError("--generative_weight: is for --classify; without it the loss is the generative one anyway");
}

std::optional<int64_t> images_read(const TrainOptions& options, int64_t steps) {
  const auto batches = formats::checked_multiply(steps, options.accumulate);
  return batches ? formats::checked_multiply(*batches, options.batch_size) : std::nullopt;
}

FieldValues settings_of(const TrainOptions& options) {
  return values_of(options, [](const Attributes& attributes) { return attributes.of_run; });
}

}  // namespace igpt::training
