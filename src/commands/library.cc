#include "igpt/commands/commands.h"

extern "C" const igpt::Commands igpt_commands;

const igpt::Commands igpt_commands = {
    IGPT_VERSION,
    igpt::training::train,
    igpt::training::settings_of_run,
    igpt::training::checkpoint_to_resume,
    igpt::training::configuration_of,
    igpt::training::plan_training,
    igpt::training::evaluate,
    igpt::check_kernels,
    igpt::sampling::complete,
    igpt::sampling::animate,
    igpt::palette_of,
    igpt::probe::run_probes,
    igpt::describe_checkpoint,
    igpt::convert,
};
