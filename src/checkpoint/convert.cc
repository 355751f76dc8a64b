#include "igpt/checkpoint/convert.h"

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/ending.h"
#include "src/checkpoint/hugging_face.h"
#include "src/checkpoint/root.h"

namespace igpt {
namespace {

enum class Form : uint8_t { torch, safetensors, folder };

Form form_of(const std::filesystem::path& output) {
  const auto ending = formats::ending_of(output);
  if (ending == ".ckpt" || ending == ".pt" || ending == ".pth") return Form::torch;
  if (ending == ".safetensors") return Form::safetensors;
  std::error_code error;
  if (!ending.empty() && !std::filesystem::is_directory(output, error))
    throw UsageError(
        output.string() +
        ": a checkpoint's name ends in .ckpt, .pt, .pth or .safetensors; that of a folder for transformers "
        "has no ending, or ends in /");
  return Form::folder;
}

}  // namespace

void convert(const std::string& path, const std::string& output, const Hooks& hooks) {
  const Form form = form_of(output);
  const auto checkpoint = read_checkpoint(path);
  require_palette(checkpoint, path);
  require_head(checkpoint, path);
  const auto note = [&](const std::string& line) {
    if (hooks.note) hooks.note(output + ": " + line);
  };
  if (form == Form::folder) {
    write_hugging_face(output, checkpoint, path);
    if (checkpoint.model.palette.empty())
      note("the checkpoint does not name its palette; the folder has " + std::to_string(checkpoint.model.num_vocab) +
           " evenly spaced greys");
    if (checkpoint.classify && checkpoint.model.shifted_classifier)
      note("its classifier reads what predicts the pixels; in Python, give it the token " +
           std::to_string(checkpoint.model.num_vocab) + " and then all pixels but the last");
  } else {
    formats::expect_writable(output, {path});
    if (form == Form::torch)
      write_checkpoint(output, checkpoint);
    else
      write_safetensors_root(output, root_of(output, checkpoint));
  }
  if (checkpoint.progress && form != Form::torch) note("without the training state, which --resume needs");
}

}  // namespace igpt
