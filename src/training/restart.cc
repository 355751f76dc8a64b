#include "igpt/training/restart.h"

#include <fstream>

#include "igpt/formats/atomic_file.h"

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

}  // namespace igpt::training
