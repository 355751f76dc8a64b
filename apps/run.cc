#include <array>
#include <string>
#include <utility>
#include <vector>

#include "apps/run/command.h"

int main(int argc, char** argv) {
  using namespace igpt;
  std::string name = "run";
  cli::run_program(
      name,
      [&] {
        const std::array<std::pair<std::string, std::unique_ptr<Command>>, 8> subcommands{
            {{"train", make_train_command()},
             {"test", make_test_command()},
             {"probe", make_probe_command()},
             {"info", make_info_command()},
             {"list", make_list_command()},
             {"plot", make_plot_command()},
             {"convert", make_convert_command()},
             {"check", make_check_command()}}};
        std::vector<std::pair<std::string, cli::Options*>> names;
        for (const auto& [word, command] : subcommands) names.emplace_back(word, &command->options);
        auto arguments = cli::arguments_of(argc, argv);
        const auto* chosen = cli::choose_command("run", arguments, names);
        if (!chosen) return 0;
        name = chosen->command();  // so that an error names its --help
        for (const auto& [word, command] : subcommands)
          if (chosen == &command->options) return command->options.parse(arguments) ? command->run() : 0;
        return 0;
      },
      "try a smaller model or --batch_size");
}
