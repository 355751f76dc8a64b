#include "src/training/ranks.h"

#include <algorithm>
#include <cstdlib>

#include "igpt/backend/machine.h"
#include "igpt/error.h"

namespace igpt::training {
namespace {

std::string shared_settings(const TrainOptions& options) {
  std::string text;
  for (const auto& [name, value] : values_of(options, [](const Attributes& a) { return a.of_run && !a.free_per_rank; }))
    text += "--" + name + " " + to_text(value) + "\n";
  return text;
}

// The first line that differs: an option of `own`.
std::string first_difference(const std::string& own, const std::string& other) {
  const auto place = std::mismatch(own.begin(), own.end(), other.begin(), other.end()).first;
  const auto begin = std::find(std::make_reverse_iterator(place), own.rend(), '\n').base();
  return {begin, std::find(begin, own.end(), '\n')};
}

}  // namespace

int64_t threads_of_rank(const TrainOptions& options) {
  const char* openmp = std::getenv("OMP_NUM_THREADS");
  const bool chosen = openmp && std::string(openmp) != "1";  // torchrun sets 1 unless told otherwise
  if (options.threads > 0 || options.launch.local_size == 1 || chosen) return options.threads;
  return std::max<int64_t>(1, backend::usable_cores() / options.launch.local_size);
}

void agree_on_options(TrainOptions& options, ProcessGroup& group) {
  if (options.batch_size < group.size())
    throw UsageError("--batch_size " + std::to_string(options.batch_size) + ": must be at least " +
                     std::to_string(group.size()) + ", it is shared by as many processes");
  if (group.alone()) return;
  const auto own = shared_settings(options), first = group.from_first(own);
  const auto others = group.ranks_unlike_first(own == first ? 0 : 1);
  if (!others.empty())
    throw UsageError(others + ": started with other options than rank 0" +
                     (own == first ? "" : ", here " + first_difference(own, first)) +
                     "; give all processes the same command line");
  options.seed = std::stoll(group.from_first(std::to_string(options.seed)));
}

void agree_on_data(const TokenDataset& data, const TrainOptions& options, ProcessGroup& group) {
  if (group.alone()) return;
  const auto others = group.ranks_unlike_first(fingerprint({data.tokens, data.labels}));
  if (!others.empty())
    throw InputError(options.data.train_x + ": " + others +
                     " read other images or labels there than rank 0; copy rank 0's "
                     "file to every machine");
}

void expect_identical(const std::vector<torch::Tensor>& state, int64_t step, ProcessGroup& group) {
  const auto others = group.ranks_unlike_first(fingerprint(state) + step);
  if (!others.empty())
    throw Error(
        "step " + std::to_string(step) + ": " + others +
        " came to other weights than rank 0; use machines and devices of one kind, check their memory, and go on "
        "from the last checkpoint, which all agreed on");
}

}  // namespace igpt::training
