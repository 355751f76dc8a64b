#pragma once

#include <string>

#include "igpt/hooks.h"

namespace igpt {

/// Writes the model of a checkpoint in another form, which the name `output` chooses: NAME.ckpt, .pt or .pth as
/// torch.save writes it, NAME.safetensors, or else a folder that transformers loads. Training state goes into a file of
/// the first form alone. Tells hooks.note what a reader of the result must know. Throws igpt::InputError as
/// read_checkpoint does and where the form cannot hold the model, igpt::Error when it cannot be written.
void convert(const std::string& checkpoint, const std::string& output, const Hooks& hooks);

}  // namespace igpt
