#include "igpt/commands/data_commands.h"

extern "C" const igpt::DataCommands igpt_data_commands;

const igpt::DataCommands igpt_data_commands = {IGPT_VERSION, igpt::data::prepare};
