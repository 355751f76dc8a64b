#include "igpt/formats/torch_file.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <new>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/pickle.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

using Source = std::shared_ptr<const ByteSource>;

// All compressed entries together. torch.save does not compress; what zip made smaller must not fill the memory.
constexpr uint64_t inflate_limit = uint64_t{16} << 20;
// The pickles of a checkpoint are some hundred kilobytes; a larger file holds tensors, which are read later.
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
  const Value* view = nullptr;

  static StorageId parse(const Value& id, const std::string& name) {
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

Value whole(std::shared_ptr<const Storage> storage, DType dtype, uint64_t numel) {
  return Value(Tensor{std::move(storage), dtype, 0, {static_cast<int64_t>(numel)}, {1}});
}

// For the small pickles around the content.
const UnpickleOptions small{.persistent_load = {}, .memory_limit = uint64_t{8} << 20};

UnpickleOptions unpickle_options(uint64_t file_size) {
  UnpickleOptions options;
  options.tensor_limit = 2 * file_size + tensor_allowance;
  return options;
}

class ZipContainer {
 public:
  ZipContainer(const Source& source, std::string name)
      : name_(name), file_size_(source->size()), zip_(std::make_shared<const ZipReader>(source, name, inflate_limit)) {}

  Value read() {
    const auto& pickled = find_pickle();
    prefix_ = pickled.name.substr(0, pickled.name.size() - pickle_name.size());
    refuse_programs();
    check_byte_order();
    if (pickled.size > max_pickle_size)
      throw InputError(name_ + ": has a data.pkl of " + std::to_string(pickled.size) +
                       " bytes, which no checkpoint needs; it was not loaded");
    const auto content = zip_->read(pickled);
    ByteReader reader(content.bytes, name_ + ": data.pkl");
    auto options = unpickle_options(file_size_);
    options.persistent_load = [this](const Value& id) { return load(StorageId::parse(id, name_)); };
    Value root = unpickle(reader, options);
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

  void check_byte_order() {
    const auto* entry = zip_->find(prefix_ + "byteorder");
    if (!entry) return;
    if (entry->size > 16) throw InputError(name_ + ": has an unknown byte order; the file is damaged");
    const auto content = zip_->read(*entry);
    const std::string_view order(reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size());
    if (order == "big")
      throw InputError(name_ + ": is from a big-endian machine; load and save it on another with PyTorch");
    if (order != "little") throw InputError(name_ + ": has the unknown byte order " + printable(order));
  }

  Value load(const StorageId& id) {
    auto& known = storages_[id.key];
    if (!known.second) {
      const auto* entry = zip_->find(prefix_ + "data/" + id.key);
      if (!entry)
        throw InputError(name_ + ": has no data/" + printable(id.key) + ", which a tensor needs; copy it again");
      known = {id.dtype,
               std::make_shared<const Storage>(entry->size, [zip = zip_, entry] { return zip->read(*entry); })};
    }
    if (known.first != id.dtype)
      throw InputError(name_ + ": uses data/" + printable(id.key) + " as two dtypes; do not trust this file");
    if (known.second->size() / element_size(id.dtype) != id.numel)
      throw InputError(name_ + ": data/" + printable(id.key) + " has " + std::to_string(known.second->size()) +
                       " bytes where a tensor needs " + std::to_string(id.numel) + " elements; the file is damaged");
    return whole(known.second, id.dtype, id.numel);
  }

  std::string name_, prefix_;
  uint64_t file_size_;
  std::shared_ptr<const ZipReader> zip_;
  std::map<std::string, std::pair<DType, std::shared_ptr<const Storage>>> storages_;
};

// Five pickles (magic number, protocol, system, content, keys of the storages), then the storages: numel, elements.
class LegacyContainer {
 public:
  LegacyContainer(Source source, const std::string& name)
      : name_(name),
        source_(std::move(source)),
        head_(source_->read(0, std::min(source_->size(), max_pickle_size))),
        file_(head_.bytes, name + ":") {}

  Value read() {
    read_head();
    auto options = unpickle_options(source_->size());
    options.persistent_load = [this](const Value& id) { return load(StorageId::parse(id, name_)); };
    Value root = unpickle(file_, options);
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

  void read_head() {
    const Value magic = unpickle(file_, small);
    if (magic.kind() != Value::Kind::big_integer || *magic.as_bytes() != legacy_magic)
      file_.fail("is a Python pickle that torch.save did not write");
    const Value protocol = unpickle(file_, small);
    if (protocol.as_int() != legacy_protocol) file_.fail("is of an unknown protocol of torch.save");
    const Value system = unpickle(file_, small);
    const auto* little_endian = system.find("little_endian");
    if (little_endian && little_endian->as_bool() == false)
      file_.fail("is from a big-endian machine; load and save it on another with PyTorch");
  }

  Value load(const StorageId& id) {
    const auto [place, added] = roots_.try_emplace(id.key, Root{id.dtype, id.numel, nullptr, nullptr});
    Root& root = place->second;
    if (added) {
      const auto size = checked_multiply<uint64_t>(id.numel, element_size(id.dtype));
      if (!size || *size > source_->size() - file_.position())
        file_.fail("is cut off: a storage of " + std::to_string(id.numel) + " elements does not fit; copy it again");
      root.offset = std::make_shared<uint64_t>(0);
      root.storage = std::make_shared<const Storage>(
          *size, [source = source_, offset = root.offset, size = *size] { return source->read(*offset, size); });
    }
    if (root.dtype != id.dtype || root.numel != id.numel)
      file_.fail("describes storage " + printable(id.key) + " in two ways; do not trust this file");
    return id.view ? load_view(id, root) : whole(root.storage, id.dtype, id.numel);
  }

  Value load_view(const StorageId& id, const Root& root) {
    const auto& items = id.view->items();
    const auto* key = items.size() == 3 ? items[0].as_string() : nullptr;
    const int64_t offset = key ? items[1].as_int().value_or(-1) : -1, numel = key ? items[2].as_int().value_or(-1) : -1;
    if (offset < 0 || numel < 0 || key->size() > max_storage_key)
      file_.fail("has a view of a storage that is none; the file is damaged");
    const auto begin = static_cast<uint64_t>(offset), count = static_cast<uint64_t>(numel);
    if (begin > id.numel || count > id.numel - begin) file_.fail("has a view beyond the end of its storage");
    const auto [place, added] = views_.try_emplace(*key, View{id.key, begin, count, nullptr});
    View& view = place->second;
    if (added) {
      const size_t width = element_size(id.dtype);
      view.storage = std::make_shared<const Storage>(count * width, [whole = root.storage, begin, count, width] {
        return SharedBytes{whole->bytes().subspan(begin * width, count * width), whole};
      });
    }
    if (view.root_key != id.key || view.offset != begin || view.numel != count)
      file_.fail("describes storage " + printable(*key) + " in two ways; do not trust this file");
    return whole(view.storage, id.dtype, count);
  }

  // Behind the pickles each storage is its number of elements, eight bytes, and they; then the file ends.
  void find_storages() {
    const Value keys = unpickle(file_, small);
    if (keys.kind() != Value::Kind::list || keys.items().size() != roots_.size())
      file_.fail("lists other storages than its tensors need; copy it again");
    uint64_t position = file_.position();
    const auto skip = [&](uint64_t count) {
      if (count > source_->size() - position)
        file_.fail("is cut off at byte " + std::to_string(source_->size()) + "; copy it again");
      return std::exchange(position, position + count);
    };
    for (const auto& key : keys.items()) {
      const auto place = key.as_string() ? roots_.find(*key.as_string()) : roots_.end();
      if (place == roots_.end() || *place->second.offset != 0)
        file_.fail("lists other storages than its tensors need; copy it again");
      Root& root = place->second;
      const auto counted = source_->read(skip(sizeof(uint64_t)), sizeof(uint64_t));
      if (ByteReader(counted.bytes, file_.subject()).u64() != root.numel)
        file_.fail("gives storage " + printable(place->first) + " two sizes; the file is damaged");
      *root.offset = skip(root.storage->size());
    }
    if (position != source_->size()) file_.fail("has bytes behind its last storage; copy it again");
  }

  std::string name_;
  Source source_;
  SharedBytes head_;
  ByteReader file_;
  std::map<std::string, Root> roots_;
  std::map<std::string, View> views_;
};

constexpr uint64_t longest_signature = 512;

// What people give by mistake, by its first bytes.
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

TorchFile parse_torch_file(std::shared_ptr<const ByteSource> source, const std::string& name) {
  const auto start = source->read(0, std::min<uint64_t>(source->size(), longest_signature));
  const std::string_view text(reinterpret_cast<const char*>(start.bytes.data()), start.bytes.size());
  if (text.starts_with("PK\3\4")) return {TorchFile::Container::zip, ZipContainer(source, name).read()};
  if (text.starts_with('\x80')) return {TorchFile::Container::legacy, LegacyContainer(source, name).read()};
  refuse(text, name);
}

TorchFile parse_torch_file(std::shared_ptr<const std::vector<std::byte>> bytes, const std::string& name) {
  return parse_torch_file(source_of(std::move(bytes)), name);
}

TorchFile read_torch_file(const std::filesystem::path& path) {
  try {
    return parse_torch_file(open_source(path), path.string());
  } catch (const std::bad_alloc&) {
    throw InputError(path.string() + ": does not fit into memory" + more_memory());
  }
}

void write_torch_file(const Sink& sink, const std::string& archive_name, const Value& root) {
  std::vector<std::shared_ptr<const Storage>> storages;
  const std::string pickled = pickle(root, storages);
  ZipWriter zip(sink);
  const std::string prefix = archive_name + "/";
  zip.add(prefix + "data.pkl", pickled);
  zip.add(prefix + "byteorder", "little");
  for (size_t key = 0; key < storages.size(); ++key)
    zip.add(prefix + "data/" + std::to_string(key), storages[key]->bytes());
  zip.add(prefix + "version", "3\n");
  // PyTorch only reports it; zero, so that the same content gives the same file.
  zip.add(prefix + ".data/serialization_id", std::string(40, '0'));
  zip.finish();
}

void write_torch_file(const std::filesystem::path& target, const Value& root) {
  AtomicFile file(target);
  write_torch_file([&](std::span<const std::byte> bytes) { file.write(bytes); }, target.stem().string(), root);
  file.publish();
}

}  // namespace igpt::formats
