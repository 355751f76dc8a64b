#include "igpt/formats/torch_file.h"

#include <algorithm>
#include <map>
#include <new>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/pickle.h"
#include "igpt/formats/zip.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

using File = std::shared_ptr<const InputFile>;

// All compressed entries together. torch.save does not compress; what others compressed must not fill the memory.
constexpr uint64_t inflate_limit = uint64_t{16} << 20;
// The pickles of a checkpoint take some hundred kilobytes; the rest of a larger file is tensors, which are read later.
constexpr uint64_t max_pickle_size = uint64_t{32} << 20;
constexpr uint64_t tensor_allowance = uint64_t{16} << 20;
constexpr size_t max_storage_key = 64;
constexpr int64_t legacy_protocol = 1001;
constexpr std::string_view legacy_magic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);  // little-endian

// ("storage", class, key, location, numel) and, in the legacy container, (view key, offset, numel) or None.
struct StorageId {
  DType dtype;
  std::string key;
  uint64_t numel;
  const PickleValue* view = nullptr;

  static StorageId parse(const PickleValue& id, const std::string& name) {
    const auto& items = id.items();
    const auto* kind = items.empty() ? nullptr : items[0].as_string();
    if (kind && *kind == "module")
      throw InputError(name + ": is a whole model of Python classes; save its state_dict() instead");
    const bool complete = kind && *kind == "storage" && items.size() >= 5;
    const auto dtype = complete ? storage_dtype(items[1]) : std::nullopt;
    const auto* key = complete ? items[2].as_string() : nullptr;
    const int64_t numel = complete ? items[4].as_int().value_or(-1) : -1;
    if (!dtype || !key || key->size() > max_storage_key || numel < 0)
      throw InputError(name + ": refers to a storage in an unknown way; the file is damaged");
    return {*dtype, *key, static_cast<uint64_t>(numel), items.size() > 5 && !items[5].is_none() ? &items[5] : nullptr};
  }
};

PickleValue whole(std::shared_ptr<const Storage> storage, DType dtype, uint64_t numel) {
  return StoredTensor{std::move(storage), dtype, 0, {static_cast<int64_t>(numel)}, {1}};
}

// Reads the pickle that holds a checkpoint's content; load(StorageId) gives the tensor that covers a storage.
template <class Load>
PickleValue unpickle_content(ByteReader& reader, const File& file, const std::string& name, const Load& load) {
  UnpickleOptions options;
  options.tensor_limit = 2 * file->size() + tensor_allowance;
  options.persistent_load = [&](const PickleValue& id) { return load(StorageId::parse(id, name)); };
  return unpickle(reader, options);
}

class ZipContainer {
 public:
  ZipContainer(const File& file, const std::string& name)
      : name_(name), file_(file), zip_(std::make_shared<const ZipReader>(file, name, inflate_limit)) {}

  PickleValue read() {
    const auto& pickled = find_pickle();
    prefix_ = pickled.name.substr(0, pickled.name.size() - pickle_name.size());
    refuse_programs();
    check_byte_order();
    if (pickled.size > max_pickle_size)
      throw InputError(name_ + ": has a data.pkl of " + std::to_string(pickled.size) +
                       " bytes, which no checkpoint needs; it was not loaded");
    const auto content = zip_->read(pickled);
    ByteReader reader(content.bytes, name_ + ": data.pkl");
    PickleValue root = unpickle_content(reader, file_, name_, [this](const StorageId& id) { return load(id); });
    if (!reader.at_end()) reader.fail("goes on behind its end; do not trust this file");
    return root;
  }

 private:
  static constexpr std::string_view pickle_name = "data.pkl";

  const ZipReader::Entry& find_pickle() const {
    const ZipReader::Entry* found = nullptr;
    for (const auto& entry : zip_->entries()) {
      const size_t slash = entry.name.find('/');
      if (entry.name.substr(slash == entry.name.npos ? 0 : slash + 1) != pickle_name) continue;
      if (found) throw InputError(name_ + ": has two data.pkl; do not trust this file");
      found = &entry;
    }
    if (!found) throw InputError(name_ + ": is a zip archive without data.pkl, so no checkpoint of torch.save");
    return *found;
  }

  void refuse_programs() const {
    for (const auto& entry : zip_->entries())
      if (entry.name == prefix_ + "constants.pkl" || entry.name.starts_with(prefix_ + "code/"))
        throw InputError(name_ +
                         ": is a TorchScript program, which is not run; save the model's state_dict() with torch.save");
  }

  void check_byte_order() const {
    const auto* entry = zip_->find(prefix_ + "byteorder");
    if (!entry) return;
    if (entry->size > 16) throw InputError(name_ + ": has an unknown byte order; the file is damaged");
    const auto content = zip_->read(*entry);
    const auto order = text_of(content.bytes);
    if (order == "big")
      throw InputError(name_ + ": is from a big-endian machine; load and save it on another with PyTorch");
    if (order != "little") throw InputError(name_ + ": has the unknown byte order " + printable(order));
  }

  PickleValue load(const StorageId& id) {
    auto& [dtype, storage] = storages_[id.key];
    const std::string shown = "data/" + printable(id.key);
    if (!storage) {
      const auto* entry = zip_->find(prefix_ + "data/" + id.key);
      if (!entry) throw InputError(name_ + ": has no " + shown + ", which a tensor needs; copy it again");
      dtype = id.dtype;
      storage = std::make_shared<const Storage>(entry->size, [zip = zip_, entry] { return zip->read(*entry); });
    }
    if (dtype != id.dtype) throw InputError(name_ + ": uses " + shown + " as two dtypes; do not trust this file");
    if (storage->size() / element_size(dtype) != id.numel)
      throw InputError(name_ + ": " + shown + " has " + std::to_string(storage->size()) +
                       " bytes where a tensor needs " + std::to_string(id.numel) + " elements; the file is damaged");
    return whole(storage, dtype, id.numel);
  }

  std::string name_, prefix_;
  File file_;
  std::shared_ptr<const ZipReader> zip_;
  std::map<std::string, std::pair<DType, std::shared_ptr<const Storage>>> storages_;
};

// Five pickles (magic number, protocol, system, content, keys of the storages), then each storage: its number of
// elements in eight bytes, and the elements.
class LegacyContainer {
 public:
  LegacyContainer(File file, const std::string& name)
      : name_(name),
        file_(std::move(file)),
        head_(file_->read_at(0, std::min(file_->size(), max_pickle_size))),
        reader_(head_.bytes, name + ":") {}

  PickleValue read() {
    const PickleValue magic = unpickle_small();
    if (magic.kind() != PickleValue::Kind::big_integer || *magic.as_bytes() != legacy_magic)
      reader_.fail("is a Python pickle that torch.save did not write");
    if (unpickle_small().as_int() != legacy_protocol) reader_.fail("is of an unknown protocol of torch.save");
    const PickleValue system = unpickle_small();
    const auto* little_endian = system.find("little_endian");
    if (little_endian && little_endian->as_bool() == false)
      reader_.fail("is from a big-endian machine; load and save it on another with PyTorch");
    PickleValue root = unpickle_content(reader_, file_, name_, [this](const StorageId& id) { return load(id); });
    find_storages();
    return root;
  }

 private:
  struct Root {
    DType dtype;
    uint64_t numel;
    std::shared_ptr<uint64_t> offset;  // in the file; unknown, 0, until the pickles are read
    std::shared_ptr<const Storage> storage;
  };
  struct View {
    std::string root_key;
    uint64_t offset, numel;
    std::shared_ptr<const Storage> storage;
  };

  PickleValue unpickle_small() { return unpickle(reader_, {.persistent_load = {}, .memory_limit = uint64_t{8} << 20}); }

  PickleValue load(const StorageId& id) {
    const auto [place, added] = roots_.try_emplace(id.key, Root{id.dtype, id.numel, nullptr, nullptr});
    Root& root = place->second;
    if (added) {
      const auto size = checked_multiply<uint64_t>(id.numel, element_size(id.dtype));
      if (!size || *size > file_->size() - reader_.position())
        reader_.fail("is cut off: a storage of " + std::to_string(id.numel) + " elements does not fit; copy it again");
      root.offset = std::make_shared<uint64_t>(0);
      root.storage = std::make_shared<const Storage>(
          *size, [file = file_, offset = root.offset, size = *size] { return file->read_at(*offset, size); });
    }
    if (root.dtype != id.dtype || root.numel != id.numel) fail_two_ways(id.key);
    return id.view ? load_view(id, root) : whole(root.storage, id.dtype, id.numel);
  }

  PickleValue load_view(const StorageId& id, const Root& root) {
    const auto& items = id.view->items();
    const auto* key = items.size() == 3 ? items[0].as_string() : nullptr;
    const int64_t offset = key ? items[1].as_int().value_or(-1) : -1, numel = key ? items[2].as_int().value_or(-1) : -1;
    if (offset < 0 || numel < 0 || key->size() > max_storage_key)
      reader_.fail("has a view of a storage that is none; the file is damaged");
    const auto begin = static_cast<uint64_t>(offset), count = static_cast<uint64_t>(numel);
    if (begin > id.numel || count > id.numel - begin) reader_.fail("has a view beyond the end of its storage");
    const auto [place, added] = views_.try_emplace(*key, View{id.key, begin, count, nullptr});
    View& view = place->second;
    if (added) {
      const size_t width = element_size(id.dtype);
      view.storage = std::make_shared<const Storage>(count * width, [whole = root.storage, begin, count, width] {
        return SharedBytes{whole->bytes().subspan(begin * width, count * width), whole};
      });
    }
    if (view.root_key != id.key || view.offset != begin || view.numel != count) fail_two_ways(*key);
    return whole(view.storage, id.dtype, count);
  }

  [[noreturn]] void fail_two_ways(const std::string& key) const {
    reader_.fail("describes storage " + printable(key) + " in two ways; do not trust this file");
  }

  void find_storages() {
    const PickleValue keys = unpickle_small();
    const auto fail_keys = [&] { reader_.fail("lists other storages than its tensors need; copy it again"); };
    if (keys.kind() != PickleValue::Kind::list || keys.items().size() != roots_.size()) fail_keys();
    uint64_t position = reader_.position();
    const auto skip = [&](uint64_t count) {
      if (count > file_->size() - position)
        reader_.fail("is cut off at byte " + std::to_string(file_->size()) + "; copy it again");
      return std::exchange(position, position + count);
    };
    for (const auto& key : keys.items()) {
      const auto place = key.as_string() ? roots_.find(*key.as_string()) : roots_.end();
      if (place == roots_.end() || *place->second.offset != 0) fail_keys();
      const Root& root = place->second;
      const auto counted = file_->read_at(skip(sizeof(uint64_t)), sizeof(uint64_t));
      if (ByteReader(counted.bytes, reader_.subject()).u64() != root.numel)
        reader_.fail("gives storage " + printable(place->first) + " two sizes; the file is damaged");
      *root.offset = skip(root.storage->size());
    }
    if (position != file_->size()) reader_.fail("has bytes behind its last storage; copy it again");
  }

  std::string name_;
  File file_;
  SharedBytes head_;
  ByteReader reader_;
  std::map<std::string, Root> roots_;
  std::map<std::string, View> views_;
};

constexpr uint64_t longest_signature = 512;

// Names a file that was given by mistake, by its first bytes.
[[noreturn]] void refuse(std::string_view bytes, const std::string& name) {
  using namespace std::string_view_literals;
  constexpr std::pair<std::string_view, std::string_view> signatures[] = {
      {"\x89PNG"sv, "is a PNG image, not a checkpoint"},
      {"GIF8"sv, "is a GIF image, not a checkpoint"},
      {"\xff\xd8\xff"sv, "is a JPEG image, not a checkpoint"},
      {"\x93NUMPY"sv, "is a numpy array (.npy), not a checkpoint"},
      {"\x89HDF"sv, "is an HDF5 file, not a checkpoint of torch.save"},
      {"\x1f\x8b"sv, "is compressed by gzip; gunzip it first"},
      {"BZh"sv, "is compressed by bzip2; bunzip2 it first"},
      {"\xfd"
       "7zXZ"sv,
       "is compressed by xz; unxz it first"},
      {"\x28\xb5\x2f\xfd"sv, "is compressed by zstd; unzstd it first"},
      {"%PDF"sv, "is a PDF document, not a checkpoint"},
      {"\x7f"
       "ELF"sv,
       "is a program, not a checkpoint"},
      {"\0\0\x08\x01"sv, "is an IDX file of labels, not a checkpoint"},
      {"\0\0\x08\x03"sv, "is an IDX file of images, not a checkpoint"},
      {"<"sv, "is a web page, not a checkpoint; download it again"},
      {"version https://git-lfs"sv, "is a pointer of Git LFS, not the file; run git lfs pull"},
      {"PK\5\6"sv, "is an empty zip archive, not a checkpoint"},
  };
  if (bytes.empty()) throw InputError(name + ": is empty; copy it again");
  for (const auto& [signature, predicate] : signatures)
    if (bytes.starts_with(signature)) throw InputError(name + ": " + std::string(predicate));
  if (bytes.size() > 262 && bytes.substr(257, 5) == "ustar")
    throw InputError(name +
                     ": is a tar archive; what PyTorch before 0.1.10 saved must be loaded and saved with a newer one");
  if (bytes.size() > 9 && bytes[8] == '{')
    throw InputError(name + ": is a safetensors file, not a checkpoint of torch.save");
  if ("PK\3\4"sv.starts_with(bytes))
    throw InputError(name + ": is cut off at byte " + std::to_string(bytes.size()) + "; copy it again");
  throw InputError(name + ": is not a checkpoint of torch.save");
}

}  // namespace

PickleValue read_torch_file(const File& file, const std::string& name) {
  const auto start = file->read_at(0, std::min(file->size(), longest_signature));
  const auto text = text_of(start.bytes);
  if (text.starts_with("PK\3\4")) return ZipContainer(file, name).read();
  if (text.starts_with('\x80')) return LegacyContainer(file, name).read();
  refuse(text, name);
}

PickleValue read_torch_file(const std::filesystem::path& path) {
  try {
    return read_torch_file(std::make_shared<const InputFile>(path), path.string());
  } catch (const std::bad_alloc&) {
    throw InputError(path.string() + ": does not fit into memory" + more_memory());
  }
}

void write_torch_file(const std::filesystem::path& target, const PickleValue& root) {
  std::vector<std::shared_ptr<const Storage>> storages;
  const std::string pickled = pickle(root, storages);
  AtomicFile file(target);
  ZipWriter zip([&](std::span<const std::byte> bytes) { file.write(bytes); });
  const std::string prefix = target.stem().string() + "/";
  zip.add(prefix + "data.pkl", pickled);
  zip.add(prefix + "byteorder", "little");
  for (size_t key = 0; key < storages.size(); ++key)
    zip.add(prefix + "data/" + std::to_string(key), storages[key]->bytes());
  zip.add(prefix + "version", "3\n");
  // PyTorch only reports it; zeros, so that the same content gives the same file.
  zip.add(prefix + ".data/serialization_id", std::string(40, '0'));
  zip.finish();
  file.publish();
}

}  // namespace igpt::formats
