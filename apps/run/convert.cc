#include <cstdio>
#include <string>

#include "apps/run/command.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"

namespace igpt {
namespace {

class ConvertCommand final : public Command {
 public:
  ConvertCommand()
      : Command({"run convert",
                 "Writes a checkpoint in another form: OUT.ckpt, OUT.safetensors, or a folder that Hugging Face's "
                 "transformers loads.",
                 "run convert models/fmnist_gen.ckpt fmnist_gen.safetensors"}) {
    options.positional("CKPT", input_, "checkpoint: a file, or a folder with config.json (model_type imagegpt)");
    options.positional("OUT", output_, "the file or folder to write");
    options.group("Program");
    cli::add_log_options(options, common);
  }

  int run() override {
    cli::Terminal terminal("files", common);
    commands().convert(input_, output_, terminal.hooks());
    std::printf("%s\n", cli::single_line(output_).c_str());
    return 0;
  }

 private:
  std::string input_, output_;
};

}  // namespace

std::unique_ptr<Command> make_convert_command() {
  return std::make_unique<ConvertCommand>();
}

}  // namespace igpt
