#include "igpt/formats/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"

namespace igpt::formats {
namespace {

constexpr uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, descriptor_signature = 0x08074b50;
constexpr uint32_t end_signature = 0x06054b50, end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr uint16_t flag_descriptor = 1 << 3, flag_utf8 = 1 << 11, flags_of_deflate = 3 << 1;
constexpr uint16_t stored = 0, deflated = 8;
constexpr uint16_t zip64_field = 1, padding_field = 'F' | 'B' << 8;
constexpr uint16_t in_zip64_16 = 0xffff;
constexpr uint32_t in_zip64_32 = 0xffffffff;
constexpr uint64_t max_entries = 100'000;
constexpr uint64_t max_directory_size = 64 << 20, max_end64_size = 64 << 10, max_descriptor_size = 24;
constexpr uint64_t max_deflate_overhead = 4096;  // for incompressible data, besides one percent
constexpr size_t local_size = 30, end_size = 22, end64_size = 56, locator64_size = 20, data_alignment = 64;

uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// The zip64 extra field holds, in a fixed order, only those numbers whose 32-bit field has all bits set.
struct Zip64Field {
  ByteReader numbers;

  static Zip64Field in(std::span<const std::byte> extra, const std::string& subject) {
    ByteReader fields(extra, subject);
    while (fields.remaining() >= 4) {
      const uint16_t id = fields.u16();
      const auto content = fields.take(fields.u16());
      if (id == zip64_field) return {ByteReader(content, subject)};
    }
    return {ByteReader({}, subject)};
  }
  uint64_t widen(uint32_t value) { return value == in_zip64_32 ? numbers.u64() : value; }
};

bool is_safe_name(std::string_view name) {
  if (name.empty() || name.starts_with('/') || name.find('\\') != name.npos || name.find('\0') != name.npos)
    return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    if (part == "." || part == ".." || (part.empty() && end != name.size())) return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

struct ZipReader::Directory {
  uint64_t offset, size, entries;
  SharedBytes content;
};

ZipReader::ZipReader(std::shared_ptr<const InputFile> archive, std::string name, uint64_t inflate_limit)
    : archive_(std::move(archive)), name_(std::move(name)), inflate_limit_(inflate_limit) {
  const auto directory = find_directory();
  read_directory(directory);
  check_local_headers(directory.offset);
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  for (size_t i = 1; i < entries_.size(); ++i)
    if (entries_[i].name == entries_[i - 1].name)
      throw InputError(name_ + ": has two entries named " + printable(entries_[i].name) + "; do not trust this file");
}

ZipReader::Directory ZipReader::find_directory() const {
  // The comment behind the end has at most 65,535 bytes.
  const uint64_t file_size = archive_->size();
  const uint64_t tail_offset = file_size - std::min<uint64_t>(file_size, locator64_size + end_size + 0xffff);
  const auto tail_bytes = archive_->read_at(tail_offset, file_size - tail_offset);
  ByteReader tail(tail_bytes.bytes, name_ + ":");
  const auto text = text_of(tail_bytes.bytes);
  const size_t end = text.rfind("PK\5\6");
  if (end == text.npos || text.size() - end < end_size || text.size() - end > end_size + 0xffff)
    tail.fail("is cut off after " + std::to_string(file_size) +
              " bytes (a zip archive without its end); copy it again");
  tail.seek(end + 4);
  const uint16_t disk = tail.u16(), directory_disk = tail.u16(), disk_entries = tail.u16(), entries = tail.u16();
  const uint32_t size = tail.u32(), offset = tail.u32();
  if (tail.u16() != tail.remaining()) tail.fail("has bytes behind the end of its zip archive; copy it again");
  if (disk != 0 || directory_disk != 0 || disk_entries != entries) tail.fail("is one part of a split zip archive");
  Directory directory{offset, size, entries, {}};
  uint64_t directory_end = tail_offset + end;

  const bool has_zip64 = end >= locator64_size && text.substr(end - locator64_size, 4) == "PK\6\7";
  if (has_zip64) {
    const uint64_t locator = directory_end - locator64_size;
    tail.seek(end - locator64_size + 8);
    directory_end = tail.u64();
    if (directory_end > locator || locator - directory_end < end64_size || locator - directory_end > max_end64_size)
      tail.fail("has a broken zip64 end; copy it again");
    const auto bytes = archive_->read_at(directory_end, locator - directory_end);
    ByteReader end64(bytes.bytes, name_ + ":");
    if (end64.u32() != end64_signature || end64.u64() != end64.remaining())
      end64.fail("has a broken zip64 end; copy it again");
    end64.take(2 + 2 + 4 + 4 + 8);
    directory.entries = end64.u64();
    directory.size = end64.u64();
    directory.offset = end64.u64();
  }
  const bool agree = (entries == directory.entries || (has_zip64 && entries == in_zip64_16)) &&
                     (size == directory.size || (has_zip64 && size == in_zip64_32)) &&
                     (offset == directory.offset || (has_zip64 && offset == in_zip64_32));
  const auto reach = checked_add(directory.offset, directory.size);
  if (!agree || !reach || *reach != directory_end)
    tail.fail("has a zip directory that contradicts its end; copy it again");
  if (directory.entries > max_entries) tail.fail("has more than 100000 zip entries, which no checkpoint needs");
  if (directory.size > max_directory_size)
    tail.fail("has a zip directory of more than 64 MiB, which no checkpoint needs");
  const auto to_end = archive_->read_at(directory.offset, tail_offset + end - directory.offset);
  if (text_of(to_end.bytes).find("PK\5\6") != text.npos)
    tail.fail("has two ends of a zip archive; do not trust this file");
  directory.content = {to_end.bytes.first(directory.size), to_end.owner};
  return directory;
}

void ZipReader::read_directory(const Directory& directory) {
  directory_ = directory.content.owner;
  ByteReader file{directory.content.bytes, name_ + ": zip directory"};
  uint64_t inflated = 0;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (file.u32() != central_signature) file.fail("is damaged at entry " + std::to_string(i) + "; copy it again");
    file.take(2 + 2);  // versions
    const uint16_t flags = file.u16();
    Entry entry;
    entry.method = file.u16();
    file.take(2 + 2);  // time and date
    entry.crc = file.u32();
    const uint32_t compressed_size = file.u32(), size = file.u32();
    const uint16_t name_size = file.u16(), extra_size = file.u16(), comment_size = file.u16(), disk = file.u16();
    file.take(2 + 4);  // attributes
    const uint32_t header_offset = file.u32();
    entry.name = file.take_text(name_size);
    auto zip64 = Zip64Field::in(file.take(extra_size), file.subject());
    file.take(comment_size);
    entry.size = zip64.widen(size);
    entry.compressed_size = zip64.widen(compressed_size);
    entry.header_offset = zip64.widen(header_offset);
    entry.has_descriptor = flags & flag_descriptor;

    const std::string shown = printable(entry.name);
    if (!is_safe_name(entry.name)) file.fail("names " + shown + ", which is no safe name; do not trust this file");
    if (flags & 1) file.fail("has the encrypted entry " + shown + "; decrypt it first");
    if (flags & ~(flag_descriptor | flag_utf8 | flags_of_deflate) || disk != 0)
      file.fail("has the entry " + shown + " with unknown flags");
    if (entry.method != stored && entry.method != deflated)
      file.fail("has the entry " + shown + " compressed in an unknown way; zip it again without compression");
    if (entry.method == stored && entry.size != entry.compressed_size)
      file.fail("gives the stored entry " + shown + " two sizes; do not trust this file");
    if (entry.method == deflated && entry.compressed_size > entry.size + entry.size / 100 + max_deflate_overhead)
      file.fail("gives the compressed entry " + shown + " impossible sizes; do not trust this file");
    if (entry.method == deflated && (entry.size > inflate_limit_ || (inflated += entry.size) > inflate_limit_))
      file.fail("has compressed entries of more than " + std::to_string(inflate_limit_ >> 20) +
                " MiB; unpack it and zip it again without compression (zip -0)");
    entries_.push_back(entry);
  }
  if (!file.at_end()) file.fail("has bytes that belong to no entry; do not trust this file");
}

namespace {

// Whether these are the CRC and sizes behind the data of an entry whose header was written before they were known.
bool is_descriptor(std::span<const std::byte> bytes, const ZipReader::Entry& entry, const std::string& subject) {
  ByteReader reader(bytes, subject);
  if (bytes.size() != 12 && bytes.size() != 16 && bytes.size() != 20 && bytes.size() != 24) return false;
  const bool wide = bytes.size() >= 20, has_signature = bytes.size() == 16 || bytes.size() == 24;
  if (has_signature && reader.u32() != descriptor_signature) return false;
  if (reader.u32() != entry.crc) return false;
  const uint64_t compressed_size = wide ? reader.u64() : reader.u32(), size = wide ? reader.u64() : reader.u32();
  return compressed_size == entry.compressed_size && size == entry.size;
}

}  // namespace

void ZipReader::check_local_headers(uint64_t directory_offset) {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.header_offset < b.header_offset; });
  // The entries lie before the directory without overlaps and gaps, so that nothing hides between them.
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (i == 0 && entries_[i].header_offset != 0)
      throw InputError(name_ + ": zip entry " + printable(entries_[i].name) +
                       " does not start the archive; do not trust this file");
    check_local_header(entries_[i], directory_offset,
                       i + 1 < entries_.size() ? entries_[i + 1].header_offset : directory_offset);
  }
  if (entries_.empty() && directory_offset != 0)
    throw InputError(name_ + ": has bytes before an empty zip directory; do not trust this file");
}

// Checks a local header against the directory, and sets entry.data_offset.
void ZipReader::check_local_header(Entry& entry, uint64_t directory_offset, uint64_t next) const {
  const std::string subject = name_ + ": zip entry " + printable(entry.name);
  uint64_t position = entry.header_offset;
  const auto refuse = [&](const char* predicate) { throw InputError(subject + " " + predicate); };
  const auto take = [&](uint64_t count) {
    if (position > directory_offset || count > directory_offset - position)
      throw InputError(subject + " is cut off at byte " + std::to_string(directory_offset) + "; copy it again");
    return archive_->read_at(std::exchange(position, position + count), count);
  };
  const auto fixed = take(local_size);
  ByteReader header(fixed.bytes, subject);
  if (header.u32() != local_signature) refuse("has no header; copy the file again");
  header.take(2);  // version
  const uint16_t flags = header.u16(), method = header.u16();
  header.take(2 + 2);
  const uint32_t crc = header.u32(), compressed_size = header.u32(), size = header.u32();
  const uint16_t name_size = header.u16(), extra_size = header.u16();
  const auto names = take(uint64_t{name_size} + extra_size);
  auto zip64 = Zip64Field::in(names.bytes.subspan(name_size), subject);
  const bool unknown_yet = entry.has_descriptor && crc == 0 && (size == 0 || size == in_zip64_32) &&
                           (compressed_size == 0 || compressed_size == in_zip64_32);
  const bool agree = text_of(names.bytes.first(name_size)) == entry.name && method == entry.method &&
                     static_cast<bool>(flags & flag_descriptor) == entry.has_descriptor && !(flags & 1) &&
                     (unknown_yet || (crc == entry.crc && zip64.widen(size) == entry.size &&
                                      zip64.widen(compressed_size) == entry.compressed_size));
  if (!agree) refuse("contradicts the directory; do not trust this file");
  entry.data_offset = position;
  if (entry.compressed_size > directory_offset - position)
    throw InputError(subject + " is cut off at byte " + std::to_string(directory_offset) + "; copy it again");
  position += entry.compressed_size;
  if (position > next) refuse("overlaps the next one; do not trust this file");
  const uint64_t rest = next - position;
  const bool seamless =
      entry.has_descriptor ? rest <= max_descriptor_size && is_descriptor(take(rest).bytes, entry, subject) : rest == 0;
  if (!seamless) refuse("is not followed by the next one; do not trust this file");
}

const ZipReader::Entry* ZipReader::find(std::string_view name) const {
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), name,
                                      [](const Entry& entry, std::string_view wanted) { return entry.name < wanted; });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

SharedBytes ZipReader::read(const Entry& entry) const {
  const auto data = archive_->read_at(entry.data_offset, entry.compressed_size);
  const SharedBytes content = entry.method == stored ? data : inflate(entry, data.bytes);
  if (crc_of(content.bytes) != entry.crc)
    throw InputError(name_ + ": " + printable(entry.name) +
                     " does not have its checksum: the file is damaged; copy it again");
  return content;
}

SharedBytes ZipReader::inflate(const Entry& entry, std::span<const std::byte> compressed) const {
  const auto inflated = std::make_shared<std::vector<std::byte>>(entry.size);
  // One byte more, to detect a stream that is longer than the header says.
  std::byte surplus{};
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw Error(name_ + ": no memory to decompress it");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(std::min<size_t>(compressed.size(), UINT32_MAX));
  stream.next_out = reinterpret_cast<Bytef*>(inflated->data());
  stream.avail_out = static_cast<uInt>(inflated->size());
  int status = inflated->empty() ? Z_BUF_ERROR : ::inflate(&stream, Z_FINISH);
  if (status == Z_BUF_ERROR && stream.avail_out == 0) {
    stream.next_out = reinterpret_cast<Bytef*>(&surplus);
    stream.avail_out = 1;
    status = ::inflate(&stream, Z_FINISH);
  }
  const bool complete =
      status == Z_STREAM_END && stream.total_out == entry.size && stream.total_in == compressed.size();
  inflateEnd(&stream);
  if (!complete)
    throw InputError(name_ + ": " + printable(entry.name) +
                     " does not decompress to its size: the file is damaged; copy it again");
  return {*inflated, inflated};
}

namespace {

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

uint32_t narrow(uint64_t value) {
  return value >= in_zip64_32 ? in_zip64_32 : static_cast<uint32_t>(value);
}

// The fields that local and central headers share, from the version needed to the CRC and sizes.
void append_common(std::string& header, uint32_t crc, uint64_t size, bool zip64) {
  append<uint16_t>(header, zip64 ? 45 : 20);  // version needed
  append<uint16_t>(header, flag_utf8);
  append<uint16_t>(header, stored);
  append<uint32_t>(header, (1u << 5 | 1u) << 16);  // 1980-01-01: the same tree gives the same bytes
  append<uint32_t>(header, crc);
  append<uint32_t>(header, narrow(size));
  append<uint32_t>(header, narrow(size));
}

}  // namespace

void ZipWriter::emit(const std::string& bytes) {
  sink_(std::as_bytes(std::span(bytes)));
  position_ += bytes.size();
}

void ZipWriter::add(const std::string& name, std::string_view content) {
  add(name, std::as_bytes(std::span(content)));
}

void ZipWriter::add(const std::string& name, std::span<const std::byte> content) {
  if (!is_safe_name(name) || name.size() > 0xffff) throw Error("no name of a zip entry: " + printable(name));
  const Written entry{name, position_, content.size(), crc_of(content)};
  std::string header;
  append(header, local_signature);
  append_common(header, entry.crc, entry.size, entry.size >= in_zip64_32);
  append<uint16_t>(header, static_cast<uint16_t>(name.size()));
  std::string extra;
  if (entry.size >= in_zip64_32) {
    append<uint16_t>(extra, zip64_field);
    append<uint16_t>(extra, 16);
    append<uint64_t>(extra, entry.size);
    append<uint64_t>(extra, entry.size);
  }
  const uint64_t unpadded = position_ + header.size() + 2 + name.size() + extra.size() + 4;
  const auto padding = static_cast<uint16_t>((data_alignment - unpadded % data_alignment) % data_alignment);
  append<uint16_t>(extra, padding_field);
  append<uint16_t>(extra, padding);
  extra.append(padding, 'Z');
  append<uint16_t>(header, static_cast<uint16_t>(extra.size()));
  emit(header + name + extra);
  sink_(content);
  position_ += content.size();
  written_.push_back(entry);
}

void ZipWriter::finish() {
  const uint64_t start = position_;
  for (const auto& entry : written_) {
    const bool wide_size = entry.size >= in_zip64_32, wide_offset = entry.offset >= in_zip64_32;
    std::string extra;
    if (wide_size || wide_offset) {
      append<uint16_t>(extra, zip64_field);
      append<uint16_t>(extra, static_cast<uint16_t>((wide_size ? 16 : 0) + (wide_offset ? 8 : 0)));
    }
    if (wide_size) append<uint64_t>(extra, entry.size), append<uint64_t>(extra, entry.size);
    if (wide_offset) append<uint64_t>(extra, entry.offset);
    std::string header;
    append(header, central_signature);
    append<uint16_t>(header, 45);  // made by
    append_common(header, entry.crc, entry.size, wide_size || wide_offset);
    append<uint16_t>(header, static_cast<uint16_t>(entry.name.size()));
    append<uint16_t>(header, static_cast<uint16_t>(extra.size()));
    header.append(2 + 2 + 2 + 4, '\0');  // comment, disk, attributes
    append<uint32_t>(header, narrow(entry.offset));
    emit(header + entry.name + extra);
  }
  const uint64_t size = position_ - start, count = written_.size();
  std::string end;
  if (count >= in_zip64_16 || start >= in_zip64_32 || size >= in_zip64_32) {
    append(end, end64_signature);
    append<uint64_t>(end, 44);
    append<uint32_t>(end, 45 | 45 << 16);  // versions
    append<uint64_t>(end, 0);              // disks
    for (const uint64_t number : {count, count, size, start}) append(end, number);
    append(end, locator64_signature);
    append<uint32_t>(end, 0);
    append<uint64_t>(end, position_);
    append<uint32_t>(end, 1);
  }
  append(end, end_signature);
  append<uint32_t>(end, 0);  // disks
  const auto shown_count = static_cast<uint16_t>(std::min<uint64_t>(count, in_zip64_16));
  append(end, shown_count);
  append(end, shown_count);
  append(end, narrow(size));
  append(end, narrow(start));
  append<uint16_t>(end, 0);  // comment
  emit(end);
}

}  // namespace igpt::formats
