#pragma once

#include <memory>

#include "igpt/cli/options.h"
#include "igpt/cli/program.h"

namespace igpt {

/// A subcommand of `run`.
class Command {
 public:
  explicit Command(cli::Options declared) : options(std::move(declared)) {}
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  virtual ~Command() = default;

  /// Does the work once the options are parsed; returns the exit status.
  virtual int run() = 0;

  cli::Options options;

 protected:
  /// What every subcommand has, the last in its help.
  void add_program_options() {
    options.group("Program");
    cli::add_device_options(options, common);
    cli::add_log_options(options, common);
    cli::add_json_option(options, common);
  }

  cli::CommonOptions common;
};

std::unique_ptr<Command> make_train_command();
std::unique_ptr<Command> make_test_command();
std::unique_ptr<Command> make_probe_command();
std::unique_ptr<Command> make_info_command();
std::unique_ptr<Command> make_list_command();
std::unique_ptr<Command> make_plot_command();
std::unique_ptr<Command> make_convert_command();
std::unique_ptr<Command> make_check_command();

}  // namespace igpt
