#include "igpt/formats/pickle.h"

#include <bit>
#include <unordered_map>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/utf8.h"
#include "src/formats/opcodes.h"

namespace igpt::formats {
namespace {

using Kind = PickleValue::Kind;

template <class T>
std::string little_endian(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

class Pickler {
 public:
  explicit Pickler(std::vector<std::shared_ptr<const Storage>>& storages) : storages_(storages) {}

  std::string run(const PickleValue& root) {
    out_ += op::proto;
    out_ += '\2';
    write(root);
    out_ += op::stop;
    return std::move(out_);
  }

 private:
  void write_index(char short_opcode, char long_opcode, uint32_t index) {
    const bool is_short = index < 256;
    out_ += is_short ? short_opcode : long_opcode;
    out_ += is_short ? little_endian(static_cast<uint8_t>(index)) : little_endian(index);
  }

  // Stores the value that was written last in the memo, and returns its index there.
  uint32_t put() {
    write_index(op::binput, op::long_binput, memoized_);
    return memoized_++;
  }

  void write_once(const std::string& opcodes) {
    const auto [known, added] = texts_.try_emplace(opcodes, memoized_);
    if (!added) return write_index(op::binget, op::long_binget, known->second);
    out_ += opcodes;
    put();
  }

  void write(const PickleValue& value) {
    if (const auto known = values_.find(value.identity()); value.identity() && known != values_.end())
      return write_index(op::binget, op::long_binget, known->second);
    switch (value.kind()) {
      case Kind::none:
        out_ += op::none;
        return;
      case Kind::boolean:
        out_ += *value.as_bool() ? op::newtrue : op::newfalse;
        return;
      case Kind::integer:
        return write_integer(*value.as_int());
      case Kind::floating:
        out_ += op::binfloat;
        out_ += little_endian(__builtin_bswap64(std::bit_cast<uint64_t>(*value.as_double())));
        return;
      case Kind::string:
        return write_string(*value.as_string());
      case Kind::list:
      case Kind::tuple:
        return write_sequence(value);
      case Kind::dict:
        return write_dict(value);
      case Kind::tensor:
        write_tensor(*value.as_tensor());
        values_[value.identity()] = put();
        return;
      default:
        throw Error("a checkpoint of ours cannot hold " + std::string(value.kind_name()));
    }
  }

  void write_integer(int64_t value) {
    if (value >= 0 && value < 256)
      out_ += op::binint1 + little_endian(static_cast<uint8_t>(value));
    else if (std::in_range<int32_t>(value))
      out_ += op::binint + little_endian(static_cast<int32_t>(value));
    else
      out_ += op::long1 + little_endian(uint8_t{sizeof(value)}) + little_endian(value);
  }

  void write_string(const std::string& text) {
    if (!std::in_range<uint32_t>(text.size())) throw Error("a string of 4 GiB or more in a checkpoint");
    if (!is_utf8(text, /*with_surrogates=*/true))
      throw Error("the text " + printable(text) + " is not UTF-8, as a checkpoint stores it");
    write_once(op::binunicode + little_endian(static_cast<uint32_t>(text.size())) + text);
  }

  void write_global(const std::string& module, std::string_view name) {
    write_once(op::global + module + "\n" + std::string(name) + "\n");
  }

  void write_sequence(const PickleValue& value) {
    const auto& items = value.items();
    const bool is_list = value.kind() == Kind::list;
    if (!is_list && items.empty()) {
      out_ += op::empty_tuple;
      return;
    }
    if (is_list) {
      out_ += op::empty_list;
      values_[value.identity()] = put();
      if (items.empty()) return;
    }
    out_ += op::mark;
    for (const auto& item : items) write(item);
    out_ += is_list ? op::appends : op::tuple;
    if (!is_list) values_[value.identity()] = put();
  }

  void write_dict(const PickleValue& value) {
    if (value.type_name() == "collections.OrderedDict")
      write_ordered_dict();
    else
      out_ += op::empty_dict;
    values_[value.identity()] = put();
    if (value.entries().empty()) return;
    out_ += op::mark;
    for (const auto& [key, entry] : value.entries()) {
      write(key);
      write(entry);
    }
    out_ += op::setitems;
  }

  void write_ordered_dict() {
    write_global("collections", "OrderedDict");
    out_ += op::empty_tuple;
    out_ += op::reduce;
  }

  // As torch.Tensor._reduce_ex_internal does it.
  void write_tensor(const StoredTensor& tensor) {
    write_global("torch._utils", "_rebuild_tensor_v2");
    out_ += op::mark;
    write_storage(tensor);
    write_integer(tensor.offset);
    write_dimensions(tensor.sizes);
    write_dimensions(tensor.strides);
    out_ += op::newfalse;  // requires_grad
    write_ordered_dict();  // backward hooks
    out_ += op::tuple;
    out_ += op::reduce;
  }

  void write_storage(const StoredTensor& tensor) {
    const auto& [dtype, name, width, storage_class, numpy_code] = info_of(tensor.dtype);
    if (storage_class.empty()) throw Error("a checkpoint of ours cannot hold a tensor of " + std::string(name));
    const auto [place, added] = keys_.try_emplace(tensor.storage.get(), std::to_string(storages_.size()), dtype);
    const auto& [key, first_dtype] = place->second;
    if (added) storages_.push_back(tensor.storage);
    if (first_dtype != dtype || tensor.storage->size() % width) throw Error("a storage of two dtypes in a checkpoint");
    out_ += op::mark;
    write_string("storage");
    write_global("torch", storage_class);
    write_string(key);
    write_string("cpu");
    write_integer(static_cast<int64_t>(tensor.storage->size() / width));
    out_ += op::tuple;
    out_ += op::binpersid;
  }

  void write_dimensions(const std::vector<int64_t>& sizes) {
    out_ += op::mark;
    for (const int64_t size : sizes) write_integer(size);
    out_ += op::tuple;
  }

  std::vector<std::shared_ptr<const Storage>>& storages_;
  std::string out_;
  uint32_t memoized_ = 0;
  std::unordered_map<const void*, uint32_t> values_;  // indices in the memo, by identity
  std::unordered_map<std::string, uint32_t> texts_;   // those of strings and globals, by their opcodes
  std::unordered_map<const Storage*, std::pair<std::string, DType>> keys_;
};

}  // namespace

std::string pickle(const PickleValue& root, std::vector<std::shared_ptr<const Storage>>& storages) {
  return Pickler(storages).run(root);
}

}  // namespace igpt::formats
