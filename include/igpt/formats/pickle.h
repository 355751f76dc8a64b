#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "igpt/formats/byte_reader.h"
#include "igpt/formats/pickle_value.h"

namespace igpt::formats {

struct UnpickleOptions {
  /// Turns the persistent id of a storage, ("storage", type, key, location, numel, ...), into a tensor of one dimension
  /// that covers it. Without it, persistent ids are refused.
  std::function<PickleValue(const PickleValue& id)> persistent_load;

  /// Upper bound of the memory for the tree, bytes, beyond the pickle's own size.
  uint64_t memory_limit = uint64_t{24} << 20;

  /// Upper bound of the bytes of all tensors together, were each of them copied out.
  uint64_t tensor_limit = UINT64_MAX;
};

/// Reads one pickle (protocols 1 to 5, up to its STOP; the reader stands behind it afterwards) as data. Nothing is
/// imported or called: the few globals that checkpoints of torch.save and Lightning name are known here by name, and
/// their calls are understood (a tensor is rebuilt, an OrderedDict is a dict, numpy's scalars are numbers). Throws
/// InputError on any other global, saying how to save plain data; on anything that is not a pickle; and on what Python
/// would not read (an unhashable key, text that is not UTF-8) or what has two entries of one key. Time grows linearly
/// with the size, and memory is limited by the options. Format: Python's Lib/pickletools.py.
PickleValue unpickle(ByteReader& reader, const UnpickleOptions& options = {});

/// The dtype of a storage's class ("torch.FloatStorage", as an opaque value in a persistent id); nothing for other
/// names. torch.storage.UntypedStorage consists of bytes, uint8.
std::optional<DType> storage_dtype(const PickleValue& storage_type);

/// A pickle of protocol 2 with tensors as torch.save writes them, which torch.load(weights_only=True) reads. Appends
/// each distinct storage to `storages`; a storage's key is its index there. Throws igpt::Error for values that no
/// checkpoint of ours holds: sets, bytes, opaque values, big integers, tensors of dtypes without a typed storage.
std::string pickle(const PickleValue& root, std::vector<std::shared_ptr<const Storage>>& storages);

}  // namespace igpt::formats
