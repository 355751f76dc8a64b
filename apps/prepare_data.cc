#include <cstdio>
#include <string>

#include "igpt/cli/options.h"
#include "igpt/cli/program.h"
#include "igpt/cli/signals.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/commands/data_commands.h"
#include "igpt/data/datasets.h"
#include "igpt/data/palette_file.h"
#include "igpt/data/prepare.h"
#include "igpt/error.h"

namespace {

using namespace igpt;

void print(const data::DatasetSource& dataset, const std::string& folder, const data::PrepareResult& result) {
  std::printf("%s is %sin %s\n", dataset.title.c_str(), result.already_there ? "already " : "",
              cli::single_line(folder).c_str());
  for (const data::PreparedFile& file : result.files) {
    std::string shape;
    for (const int64_t size : file.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    std::printf("  %s  %s  %s\n", cli::single_line(file.path.string()).c_str(), file.dtype.c_str(), shape.c_str());
  }
}

// What --palette and --num_vocab ask for.
void choose_palette(const std::string& name, bool has_size, const Hooks& hooks, data::PrepareOptions& prepare) {
  if (name == "kmeans") {
    prepare.kmeans = true;
    return;
  }
  if (name == "grey") {
    constexpr int64_t most_greys = 256;
    if (prepare.num_vocab > most_greys)
      throw UsageError("--num_vocab " + std::to_string(prepare.num_vocab) + ": there are 256 greys; --palette kmeans " +
                       "finds more colours in RGB images");
    if (has_size) prepare.palette = data::Palette::grey(prepare.num_vocab);
    return;
  }
  prepare.palette_file = name;
  if (data::is_npy(name)) {
    auto [palette, values] = data::read_palette_file(name);
    hooks.note(name + ": a palette of " + std::to_string(palette.size()) +
               (palette.channels == 1 ? " greys, " : " RGB colours, ") + values);
    prepare.palette = std::move(palette);
  } else {
    prepare.palette = commands().palette_of(name);
  }
  if (has_size && prepare.num_vocab != prepare.palette.size())
    throw UsageError("--num_vocab " + std::to_string(prepare.num_vocab) + ": the palette of " + name + " has " +
                     std::to_string(prepare.palette.size()) + " colours; leave the option out");
}

int prepare_data(int argc, char** argv) {
  cli::CommonOptions common;
  data::PrepareOptions prepare;
  bool fashion = false;
  std::string dataset_name = "mnist", data_dir = prepare.data_dir.string(), palette = "grey";

  cli::Options options("prepare_data",
                       "Turns the images of MNIST, Fashion-MNIST, CIFAR-10 or a folder into palette indices.",
                       "prepare_data --fashion");
  options.group("Dataset");
  options.add("fashion", fashion, "Fashion-MNIST; the same as --dataset fashion");
  options.add("dataset", dataset_name, "which dataset", one_of(data::dataset_names()));
  options.add(
      "source", prepare.source,
      "folder with its files (IDX files, plain or .gz), its archive, or the URL of a mirror; of --dataset folder "
      "the pictures: {train,test}/CLASS/*.png or CLASS/*.jpg",
      {}, {.placeholder = "DIR|URL"});
  options.add("num_pixels", prepare.num_pixels, "side to which the pictures of a folder are resized", between(1, 1024));
  options.group("Output");
  options.add("palette", palette,
              "grey: evenly spaced greys; kmeans: the colours that fit the training images best; or a file with the "
              "palette: FILE.npy (V x 1 or V x 3; bytes, or floats from 0 to 1 or from -1 to 1) or a checkpoint",
              {}, {.placeholder = "grey|kmeans|FILE|CKPT"});
  options.add("num_vocab", prepare.num_vocab, "colours of the palette, of kmeans up to 32768",
              between(2, kLargestVocab), {.shown_default = "16; kmeans of RGB images: 512"});
  options.add("seed", prepare.seed, "of kmeans, and of the tenth of CLASS/*.png that becomes the test set", any_seed());
  options.add("data_dir", data_dir, "folder of train_x.npy, train_y.npy, test_x.npy and test_y.npy", {},
              {.placeholder = "DIR"});
  options.add("dtype", prepare.dtype, "integer type; auto: the smallest that fits", one_of({"auto", "int64"}));
  options.add("force", prepare.force, "write the files again even if they exist");
  cli::add_log_options(options, common);
  if (!options.parse(cli::arguments_of(argc, argv))) return 0;

  if (fashion && options.given("dataset") && dataset_name != "fashion")
    throw UsageError("--fashion --dataset " + dataset_name + ": give one of the two");
  if (palette.empty()) throw UsageError("--palette: is empty; give grey, kmeans, or the path of a file with a palette");
  if (data_dir.empty()) throw UsageError("--data_dir: is empty; give the name of a folder");
  const data::DatasetSource& dataset = data::find_dataset(fashion ? "fashion" : dataset_name);
  if (dataset.format != data::DatasetFormat::kFolder && options.given("num_pixels"))
    throw UsageError("--num_pixels: the images of " + dataset.title + " keep their size; leave it out");
  cli::Terminal terminal("kB", common);
  const Hooks hooks = terminal.hooks();
  const std::string version = cli::version_text();
  prepare.data_dir = data_dir;
  choose_palette(palette, options.given("num_vocab"), hooks, prepare);
  prepare.made_by = version.substr(0, version.find('\n'));
  prepare.note = hooks.note;
  std::string current;  // each download has a bar of its own
  prepare.progress = [&](const std::string& file, uint64_t done, uint64_t total) {
    cli::throw_if_stopped();
    if (total == 0) return;
    if (file != current) terminal.finish();
    current = file;
    hooks.progress(static_cast<int64_t>(total) / 1000, static_cast<int64_t>(done) / 1000, file);
  };
  const data::PrepareResult result = data_commands().prepare(dataset, prepare);
  terminal.finish();
  print(dataset, data_dir, result);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return cli::run_program("prepare_data", [&] { return prepare_data(argc, argv); });
}
