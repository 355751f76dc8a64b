#include <cstdlib>
#include <filesystem>

#include "fuzz.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/runs/metrics.h"
#include "igpt/runs/run_list.h"
#include "temporary_folder.h"

// The files of a run's folder, which `run list` and `run plot` read: each of them holds the bytes.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace igpt;
  static const testing::TemporaryFolder folder;
  static const std::filesystem::path run = [] {
    std::filesystem::create_directories(folder / "name/version_0");
    return folder / "name/version_0";
  }();
  for (const char* file : {"metrics.csv", "state.json", "hparams.yaml"})
    testing::write_bytes(run / file, std::string(fuzz::text_of(data, size)));
  std::vector<runs::MetricsRow> rows;
  fuzz::succeeds_or_refuses([&] { rows = runs::read_metrics(run / "metrics.csv", runs::Damaged::leave_out); });
  fuzz::succeeds_or_refuses([&] {
    if (runs::read_metrics(run / "metrics.csv").size() != rows.size()) std::abort();
  });
  fuzz::succeeds_or_refuses([&] { runs::read_state(run); });
  fuzz::succeeds_or_refuses([&] { runs::read_settings(run); });
  fuzz::succeeds_or_refuses([&] { runs::list_runs(folder.path()); });
  return 0;
}
