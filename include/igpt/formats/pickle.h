#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "igpt/formats/byte_reader.h"
#include "igpt/formats/value.h"

namespace igpt::formats {

struct UnpickleOptions {
  /// Turns the persistent id of a storage, ("storage", type, key, location, numel, ...), into a tensor of one dimension
  /// that covers it. Without one, persistent ids are refused.
  std::function<Value(const Value& id)> persistent_load;

  /// Upper bound of the memory for the tree, bytes, beyond the pickle's own size.
  uint64_t memory_limit = uint64_t{24} << 20;

  /// Upper bound of all tensors' elements together, bytes, were each copied out.
  uint64_t tensor_limit = UINT64_MAX;
};

/// Reads one pickle (protocols 1 to 5, up to its STOP; the reader stands behind it afterwards) as data. Nothing is
/// imported or called: the few globals that checkpoints of torch.save and Lightning name are known here by name, and
/// their calls are understood (a tensor is rebuilt, an OrderedDict is a dict, numpy's scalars are numbers); any other
/// throws InputError that says how to save plain data, as does everything that is not a pickle, that Python would not
/// read (an unhashable key, text that is not UTF-8), or that has two entries of one key. Time grows with the size,
/// memory as the options say. Format: Python's Lib/pickletools.py.
Value unpickle(ByteReader& reader, const UnpickleOptions& options = {});

/// The class name of a storage ("torch.FloatStorage", as an opaque value in a persistent id) to its dtype; nothing for
/// other names. torch.storage.UntypedStorage is of bytes, uint8.
std::optional<DType> storage_dtype(const Value& storage_type);

/// A pickle of protocol 2 with tensors as torch.save writes them, which torch.load(weights_only=True) reads. Appends
/// each distinct storage to `storages`; a storage's key is its place there. Sets, opaque values and big integers throw
/// igpt::Error: no checkpoint of ours holds any.
std::string pickle(const Value& root, std::vector<std::shared_ptr<const Storage>>& storages);

}  // namespace igpt::formats
