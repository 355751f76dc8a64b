#include "igpt/training/restart.h"

#include <fstream>

#include "igpt/formats/atomic_file.h"
#include "igpt/training/run_folder.h"

namespace igpt::training {

namespace fs = std::filesystem;

JobRecord::JobRecord(const DistributedContext& launch, const fs::path& runs) : launch_(launch), file_(runs / ".job") {
  if (launch_.job.empty()) return;
  std::string job, launcher, run;
  std::ifstream file(file_);
  std::getline(file, job) && std::getline(file, launcher) && std::getline(file, run);
  // torchrun does not count the restarts for which machines that come or go are the cause, but its process lives on.
  const bool same = job == launch_.job && (launch_.restarts > 0 || (!launcher.empty() && launcher == launch_.launcher));
  std::error_code ignored;
  if (same && fs::exists(fs::path(run) / "hparams.yaml", ignored))
    run_ = run;
  else if (!job.empty())
    fs::remove(file_, ignored);
}

void JobRecord::remember(const fs::path& run) const {
  if (launch_.job.empty()) return;
  formats::write_atomically(file_, launch_.job + "\n" + launch_.launcher + "\n" + fs::absolute(run).string() + "\n");
}

JobRecord job_record(const TrainOptions& options) {
  if (options.resume.empty()) return {options.launch, fs::path(options.log_dir) / options.name};
  return {options.launch, fs::absolute(RunFolder::path_of(options.resume)).parent_path()};
}

fs::path continue_restarted_run(TrainOptions& options, ProcessGroup& group, const Hooks& hooks) {
  if (options.launch.job.empty()) return {};
  std::string run, last;
  if (group.is_first()) {
    run = job_record(options).run().string();
    last = (fs::path(run) / "checkpoints" / "last.ckpt").string();
    if (run.empty() || !fs::exists(last)) last.clear();
  }
  const fs::path restarted = group.from_first(run);
  last = group.from_first(last);
  if (last.empty()) return restarted;
  options.resume = last;
  for (const auto& [name, text] : settings_of_run(last))
    if (name == "seed") options.seed = std::stoll(text);
  if (hooks.note) hooks.note("started again: going on from " + last);
  return restarted;
}

}  // namespace igpt::training
