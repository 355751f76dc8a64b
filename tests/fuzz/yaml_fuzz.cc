#include "fuzz.h"
#include "igpt/cli/options.h"
#include "igpt/data/dataset_folder.h"

// The two kinds of YAML file that the programs read: dataset.yaml and configurations (--config).
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto text = igpt::fuzz::text_of(data, size);
  igpt::fuzz::succeeds_or_refuses([&] { igpt::data::parse_dataset_info(std::string(text), "dataset.yaml"); });

  const igpt::testing::MemoryFile file(text);
  igpt::fuzz::succeeds_or_refuses([&] {
    int64_t steps = 1;
    double rate = 0.01;
    std::string name;
    bool classify = false;
    std::vector<int64_t> indices;
    igpt::cli::Options options("run train", "Trains.", "run train");
    options.add("steps", steps, "optimizer updates");
    options.add("learning_rate", rate, "peak rate");
    options.add("name", name, "folder of the run");
    options.add("classify", classify, "train a classifier");
    options.add("indices", indices, "of images");
    options.load_yaml(file.path().string());
  });
  return 0;
}
