#include "igpt/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <bit>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "checkpoint_text.h"
#include "hostile.h"
#include "memory_file.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

namespace fs = std::filesystem;
using igpt::testing::memory_file;
using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::HasSubstr;

const fs::path golden = fs::path(IGPT_GOLDEN) / "safetensors";

std::string file_of(const std::string& header, const std::string& data = "") {
  return little_endian<uint64_t>(header.size()) + header + data;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

SafetensorsReader reader_of(const std::string& bytes) {
  return {memory_file(bytes), "x.safetensors"};
}

std::string refused(const std::string& bytes) {
  return refusal([&] { reader_of(bytes); });
}

// As tests/golden/make_golden_safetensors.py has it.
std::string text_of(const SafetensorsReader& reader, const std::string& bytes) {
  std::string text;
  for (const auto& [key, value] : reader.metadata()) text += key + "=" + value + "\n";
  for (const auto& tensor : reader.tensors()) {
    text += tensor.name + "\t" + std::string(tensor.dtype) + " (";
    for (const int64_t size : tensor.sizes) text += std::to_string(size) + ",";
    text += ") " + hex(bytes.substr(tensor.offset, tensor.nbytes)) + "\n";
  }
  return text;
}

class SafetensorsGolden : public ::testing::TestWithParam<std::string> {
 protected:
  const std::string bytes_ = read_bytes(golden / (GetParam() + ".safetensors"));
};

TEST_P(SafetensorsGolden, IsReadAsPythonReadsIt) {
  EXPECT_EQ(text_of(SafetensorsReader(golden / (GetParam() + ".safetensors")), bytes_),
            read_bytes(golden / (GetParam() + ".txt")));
}

TEST_P(SafetensorsGolden, EveryTruncationIsRefused) {
  for (size_t size = 0; size < bytes_.size(); ++size) refused(bytes_.substr(0, size));
  refused(bytes_ + '\0');
}

TEST_P(SafetensorsGolden, ChangedBytesAreReadOrRefused) {
  for (size_t i = 0; i < bytes_.size(); ++i)
    for (const unsigned change : {0x01, 0x10, 0x80, 0xff}) {
      std::string changed = bytes_;
      changed[i] = static_cast<char>(static_cast<unsigned char>(changed[i]) ^ change);
      try {
        const auto reader = reader_of(changed);
        for (const auto& tensor : reader.tensors()) EXPECT_LE(tensor.offset + tensor.nbytes, changed.size());
      } catch (const InputError& error) {
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Python, SafetensorsGolden, ::testing::Values("dtypes", "shapes", "others", "empty"),
                         [](const auto& name) { return name.param; });

class SafetensorsWriter : public ::testing::TestWithParam<std::string> {};

TEST_P(SafetensorsWriter, WritesTheBytesThatPythonWrites) {
  const fs::path original = golden / (GetParam() + ".safetensors");
  const SafetensorsReader reader(original);
  std::vector<std::pair<std::string, StoredTensor>> tensors;
  for (const auto& tensor : reader.tensors()) tensors.emplace_back(tensor.name, reader.read(tensor));
  const TemporaryFolder folder;
  write_safetensors(folder / "x.safetensors", tensors, reader.metadata());
  EXPECT_EQ(read_bytes(folder / "x.safetensors"), read_bytes(original));
}

INSTANTIATE_TEST_SUITE_P(Python, SafetensorsWriter, ::testing::Values("dtypes", "shapes"),
                         [](const auto& name) { return name.param; });

TEST(Safetensors, ATensorIsReadOnDemandAndLivesOnItsOwn) {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::string two = tensor("a", "F32", "[1,2]", "[0,8]") + "," + tensor("b", "U8", "[]", "[8,9]");
  write_bytes(path, file_of("{" + two + "}", std::string("\0\0\x80\x3f\0\0\0\x40\7", 9)));
  StoredTensor a, b;
  {
    const SafetensorsReader reader(path);
    EXPECT_EQ(reader.find("c"), nullptr);
    ASSERT_NE(reader.find("a"), nullptr);
    a = reader.read(*reader.find("a"));
    b = reader.read(*reader.find("b"));
  }
  EXPECT_EQ(a.sizes, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(a.dtype, DType::float32);
  EXPECT_EQ(tensor_fault(a), std::nullopt);
  float values[2];
  std::memcpy(values, a.storage->bytes().data(), sizeof values);
  EXPECT_EQ(values[0], 1);
  EXPECT_EQ(values[1], 2);
  EXPECT_EQ(b.numel(), 1);
  fs::resize_file(path, 20);  // b has not been read yet
  EXPECT_THAT(refusal([&] { b.storage->bytes(); }), HasSubstr("became shorter"));
  EXPECT_EQ(a.storage->bytes().size(), 8u);
}

TEST(Safetensors, EmptyAndZeroDimensionalTensorsAndNoneAreFine) {
  EXPECT_TRUE(reader_of(file_of("{}")).tensors().empty());
  EXPECT_TRUE(reader_of(file_of("{\"__metadata__\":{}}   ")).metadata().empty());
  const auto reader =
      reader_of(file_of("{" + tensor("c", "U8", "[2]", "[0,2]") + "," + tensor("d", "F64", "[0]", "[2,2]") + "," +
                            tensor("b", "F64", "[3,0]", "[0,0]") + "," + tensor("a", "I8", "[]", "[2,3]") + "}",
                        "xyz"));
  ASSERT_EQ(reader.tensors().size(), 4u);
  EXPECT_EQ(reader.tensors()[0].name, "a");
  for (const auto& tensor : reader.tensors()) {
    const StoredTensor read = reader.read(tensor);
    EXPECT_EQ(tensor_fault(read), std::nullopt) << tensor.name;
    EXPECT_EQ(read.storage->bytes().size(), tensor.nbytes) << tensor.name;
  }
}

TEST(Safetensors, DtypesThatAreNotReadAreNamed) {
  const auto reader =
      reader_of(file_of("{" + tensor("a", "F4", "[4]", "[0,2]") + "," + tensor("b", "F6_E2M3", "[4]", "[2,5]") + "," +
                            tensor("c", "F6_E3M2", "[4]", "[5,8]") + "," + tensor("d", "F8_E8M0", "[1]", "[8,9]") + "}",
                        "123456789"));
  for (const auto& tensor : reader.tensors())
    EXPECT_EQ(refusal([&] { reader.read(tensor); }), "x.safetensors: " + tensor.name + " is of the dtype " +
                                                         std::string(tensor.dtype) +
                                                         ", which is not read; convert it to F32 first");
}

struct Rule {
  const char* name;
  std::string bytes, message;
};

void PrintTo(const Rule& rule, std::ostream* out) {
  *out << rule.name;
}

class SafetensorsRule : public ::testing::TestWithParam<Rule> {};

TEST_P(SafetensorsRule, IsEnforced) {
  const std::string message = refused(GetParam().bytes);
  EXPECT_TRUE(message.starts_with("x.safetensors: ")) << message;
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                const std::string& data) {
  return file_of("{" + tensor("a", dtype, shape, offsets) + "}", data);
}

std::string length_says(uint64_t length) {
  return little_endian(length) + "{}";
}

std::vector<Rule> rules() {
  const std::string a = tensor("a", "U8", "[2]", "[0,2]");
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  return {
      // The file and its header.
      {"Empty", "", "is empty"},
      {"Bytes7", std::string(7, '\0'), "is cut off at byte 7"},
      {"Length0", length_says(0), "does not begin with {"},
      {"Length3", length_says(3), "is cut off at byte 10, in its header of 3 bytes"},
      {"LengthOfTheFormat", length_says(100'000'000), "is cut off at byte 10, in its header of 100000000 bytes"},
      {"LengthBeyondTheFormat", length_says(100'000'001),
       "has a header of 100000001 bytes, the format allows 100000000"},
      {"Length2e63", length_says(uint64_t{1} << 63), "the format allows 100000000"},
      {"LengthMinus1", length_says(UINT64_MAX), "the format allows 100000000"},
      {"LengthMinus8", length_says(UINT64_MAX - 7), "the format allows 100000000"},
      {"LengthTooShort", little_endian<uint64_t>(4) + "{}  xxxx", "has 4 bytes at byte 12 that belong to no tensor"},
      {"LengthInsideTheText", little_endian<uint64_t>(1) + "{}", "does not end with }"},
      {"SpaceInFront", file_of(" {}"), "does not begin with {"},
      {"ByteOrderMark", file_of("\xef\xbb\xbf{}"), "does not begin with {"},
      {"List", file_of("[]"), "does not begin with {"},
      {"NewlineBehind", file_of("{}\n"), "does not end with } and spaces"},
      {"ZeroBehind", file_of(std::string("{}\0", 3)), "does not end with } and spaces"},
      {"ZeroInside", file_of(std::string("{}\0}", 4)), "header: is not JSON"},
      {"TwoObjects", file_of("{}{}"), "header: is not JSON"},
      {"NotJson", file_of("{a}"), "header: is not JSON at line 1, column 2"},
      {"NotUtf8", file_of("{" + tensor("\xff", "U8", "[0]", "[0,0]") + "}"), "header: is not JSON"},
      {"Surrogate", file_of("{" + tensor("\\ud800", "U8", "[0]", "[0,0]") + "}"), "header: is not JSON"},
      {"OverlongUtf8", file_of("{" + tensor("\xc0\x80", "U8", "[0]", "[0,0]") + "}"), "header: is not JSON"},
      {"Nested", file_of("{\"a\":" + repeated("[", 1'000'000) + "}"), "is nested more than 3 deep"},
      // Keys.
      {"TensorTwice", file_of("{" + a + "," + a + "}", "ab"), "has the key a twice"},
      {"TensorTwiceEscaped", file_of("{" + a + "," + tensor("\\u0061", "U8", "[0]", "[2,2]") + "}", "ab"),
       "has the key a twice"},
      {"MetadataTwice", file_of("{\"__metadata__\":{},\"__metadata__\":{}}"), "has the key __metadata__ twice"},
      {"MetadataKeyTwice", file_of("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}"),
       "__metadata__: has the key a twice"},
      {"DtypeTwice", file_of("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
       "a: has the key dtype twice"},
      {"UnknownKey", file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"crc\":1}}"),
       "a: crc: is not known to the format"},
      {"DtypeMissing", file_of("{\"a\":{\"shape\":[0],\"data_offsets\":[0,0]}}"), "a: has no dtype"},
      {"ShapeMissing", file_of("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}"), "a: has no shape"},
      {"OffsetsMissing", file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}"), "a: has no data_offsets"},
      {"TensorAList", file_of("{\"a\":[]}"), "a: must be an object"},
      {"TensorNull", file_of("{\"a\":null}"), "a: must be an object"},
      {"MetadataNull", file_of("{\"__metadata__\":null}"), "__metadata__: must be an object"},
      {"MetadataAText", file_of("{\"__metadata__\":\"pt\"}"), "__metadata__: must be an object"},
      {"MetadataOfNumbers", file_of("{\"__metadata__\":{\"step\":1}}"), "__metadata__: step: must be a text"},
      {"MetadataNested", file_of("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}"), "__metadata__: a: must be a text"},
      {"LongName", file_of("{" + tensor(std::string(1025, 'n'), "U8", "[0]", "[0,0]") + "}"),
       "has a key of 1025 bytes"},
      // Dtypes.
      {"DtypeUnknown", one("Q8", "[0]", "[0,0]", ""), "a: dtype: is Q8, which the format does not know"},
      {"DtypeLowerCase", one("f32", "[0]", "[0,0]", ""), "which the format does not know"},
      {"DtypeOfTorch", one("float32", "[0]", "[0,0]", ""), "which the format does not know"},
      {"DtypeEmpty", one("", "[0]", "[0,0]", ""), "which the format does not know"},
      {"DtypeNumber", file_of("{\"a\":{\"dtype\":8,\"shape\":[0],\"data_offsets\":[0,0]}}"),
       "a: dtype: must be a text"},
      // Shapes.
      {"ShapeANumber", one("U8", "2", "[0,2]", "ab"), "a: shape: must be a list"},
      {"ShapeNegative", one("U8", "[-2]", "[0,2]", "ab"), "a: shape[0] -2: must be 0 to 281474976710655"},
      {"ShapeFraction", one("U8", "[2.0]", "[0,2]", "ab"), "a: shape[0]: must be a whole number"},
      {"ShapeAText", one("U8", "[\"2\"]", "[0,2]", "ab"), "a: shape[0]: must be a whole number"},
      {"Shape2e48", one("U8", "[281474976710656,0]", "[0,0]", ""), "must be 0 to 281474976710655"},
      {"Shape2e64", one("U8", "[18446744073709551616]", "[0,0]", ""), "a: shape[0]: is too large"},
      {"ShapeWraps", one("U8", "[65536,65536,65536,65536,2]", "[0,0]", ""), "which is no number of bytes"},
      {"ShapeWrapsTo2", one("U8", "[4294967296,4294967296,2]", "[0,2]", "ab"), "which is no number of bytes"},
      {"ShapeWrapsInBits", one("F64", "[281474976710655,65536]", "[0,0]", ""), "which is no number of bytes"},
      {"ShapeZeroHidesOverflow", one("U8", "[0,281474976710655,281474976710655]", "[0,0]", ""),
       "which is no number of bytes"},
      {"Dimensions65", one("U8", "[" + many + "]", "[0,1]", "a"), "a: shape: has more than 64 dimensions"},
      {"Dimensions10e4", one("U8", "[1" + repeated(",1", 10'000) + "]", "[0,1]", "a"), "has more than 10000 values"},
      {"HalfAByte", one("F4", "[3]", "[0,1]", "a"), "a: is F4 [3], which is no number of bytes"},
      // Places.
      {"OffsetsOne", one("U8", "[2]", "[2]", "ab"), "a: data_offsets: must be the begin and the end"},
      {"OffsetsThree", one("U8", "[2]", "[0,2,2]", "ab"), "a: data_offsets: must be the begin and the end"},
      {"OffsetsBackwards", one("U8", "[2]", "[2,0]", "ab"), "a: data_offsets: must be the begin and the end"},
      {"OffsetsNegative", one("U8", "[2]", "[-2,0]", "ab"), "a: data_offsets[0] -2: must be at least 0"},
      {"OffsetsFraction", one("U8", "[2]", "[0,2.5]", "ab"), "a: data_offsets[1]: must be a whole number"},
      {"Offsets2e64", one("U8", "[2]", "[0,18446744073709551616]", "ab"), "a: data_offsets[1]: is too large"},
      {"Offsets2e63", one("U8", "[2]", "[9223372036854775805,9223372036854775807]", "ab"),
       "bytes behind the end of the file"},
      {"EndBehindTheFile", one("U8", "[3]", "[0,3]", "ab"), "a: ends 1 byte behind the end of the file; copy it again"},
      {"SizeTooSmall", one("F32", "[2]", "[0,4]", "abcd"), "a: has 4 bytes where F32 [2] needs 8"},
      {"SizeTooLarge", one("F16", "[2]", "[0,5]", "abcde"), "a: has 5 bytes where F16 [2] needs 4"},
      {"SizeOfNone", one("F16", "[2,0]", "[0,1]", "a"), "a: has 1 byte where F16 [2, 0] needs 0"},
      {"SizeOfOne", one("F64", "[]", "[0,4]", "abcd"), "a: has 4 bytes where F64 [] needs 8"},
      {"HoleInFront", one("U8", "[1]", "[1,2]", "ab"), "has 1 byte at byte 61 that belong"},
      {"HoleBetween",
       file_of("{" + tensor("a", "U8", "[1]", "[0,1]") + "," + tensor("b", "U8", "[1]", "[2,3]") + "}", "abc"),
       "has 1 byte at byte"},
      {"HoleBehind", one("U8", "[1]", "[0,1]", "ab"), "that belong to no tensor"},
      {"DataOfNoTensor", file_of("{}", "ab"), "has 2 bytes at byte 10 that belong to no tensor"},
      {"EmptyTensorInAHole", one("U8", "[0]", "[1,1]", "ab"), "that belong to no tensor"},
      {"SameBytes", file_of("{" + a + "," + tensor("b", "I8", "[2]", "[0,2]") + "}", "ab"),
       "has the tensors a and b in the same bytes"},
      {"Overlap", file_of("{" + a + "," + tensor("b", "U8", "[2]", "[1,3]") + "}", "abc"),
       "has the tensors a and b in the same bytes"},
      {"Inside",
       file_of("{" + tensor("b", "U8", "[1]", "[1,2]") + "," + tensor("a", "U8", "[3]", "[0,3]") + "}", "abc"),
       "has the tensors a and b in the same bytes"},
      {"EmptyInside", file_of("{" + a + "," + tensor("b", "U8", "[0]", "[1,1]") + "}", "ab"),
       "has the tensors a and b in the same bytes"},
  };
}

INSTANTIATE_TEST_SUITE_P(All, SafetensorsRule, ::testing::ValuesIn(rules()),
                         [](const auto& rule) { return std::string(rule.param.name); });

TEST(Safetensors, ErrorsAreOneLineWhateverTheNames) {
  const std::string name = repeated("\\u001b[2J\\n", 100);
  for (const std::string& entry :
       {tensor(name, "U8", "[1]", "[0,2]"), tensor("a", name, "[1]", "[0,2]"), "\"" + name + "\":{\"" + name + "\":1}",
        tensor(name, "U8", "[1]", "[0,1]") + "," + tensor("b" + name, "U8", "[2]", "[0,2]"),
        tensor("a", "U8", "[281474976710655" + repeated(",281474976710655", 63) + "]", "[0,2]")})
    refused(file_of("{" + entry + "}", "ab"));
}

TEST(Safetensors, NoHeaderTakesMuchMemory) {
  const auto headers = [] {
    std::vector<std::string> result;
    std::string tensors, pairs;
    for (int i = 0; i < 100'000; ++i) {
      const std::string name = std::to_string(i);
      tensors += (i ? "," : "") + tensor(name, "U8", "[0" + repeated(",1", 5) + "]", "[0,0]");
      pairs += (i ? "," : "") + ("\"" + name) + "\":\"\"";
    }
    result.push_back("{" + tensors + "}");
    result.push_back("{" + tensors + "," + tensor("a", "U8", "[0]", "[0,0]") + "}");
    result.push_back("{\"__metadata__\":{" + pairs + "}}");
    result.push_back("{\"__metadata__\":{\"a\":\"" + std::string((16 << 20) - 40, 'x') + "\"}}");
    result.push_back("{\"" + std::string((16 << 20) - 40, 'x') + "\":{}}");
    result.push_back("{\"a\":{\"shape\":[" + std::string((16 << 20) - 40, '1') + "]}}");
    result.push_back("{\"a\":[" + repeated("[],", 5 << 20) + "]}");
    result.push_back("{" + repeated("\"a\":{},", 2 << 20) + "}");
    result.push_back("{" + std::string((16 << 20) - 2, ' ') + "}");
    return result;
  }();
  for (const std::string& header : headers) {
    const auto file = memory_file(file_of(header));
    expect_modest(2 * file->size() + (uint64_t{64} << 20), [&] {
      try {
        SafetensorsReader(file, "x.safetensors");
      } catch (const InputError&) {
      }
    });
  }
  EXPECT_EQ(reader_of(file_of(headers[0])).tensors().size(), 100'000u);
  EXPECT_THAT(refused(file_of(headers[1])), HasSubstr("has more than 100000 tensors"));
  EXPECT_EQ(reader_of(file_of(headers[3])).metadata().at("a").size(), (16u << 20) - 40);
}

TEST(Safetensors, LargeFilesAreNotReadBeforeTheirTensorsAre) {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  const uint64_t size = uint64_t{8} << 30;
  write_bytes(path, file_of("{" + tensor("a", "F32", "[2147483648]", "[0,8589934592]") + "," +
                            tensor("b", "U8", "[4]", "[8589934592,8589934596]") + "}"));
  fs::resize_file(path, fs::file_size(path) + size + 4);
  expect_modest(uint64_t{1} << 20, [&] {
    const SafetensorsReader reader(path);
    reader.read(*reader.find("a"));
    EXPECT_EQ(hex(reader.read(*reader.find("b")).storage->bytes()), "00000000");
  });
  // A header that is within the format, and says so of zeros.
  write_bytes(path, little_endian<uint64_t>(100'000'000) + "{");
  fs::resize_file(path, size);
  expect_modest(uint64_t{1} << 20, [&] {
    EXPECT_THAT(refusal([&] { SafetensorsReader reader(path); }), HasSubstr("which no checkpoint needs"));
  });
}

TEST(Safetensors, IsToldFromOtherFiles) {
  EXPECT_TRUE(is_safetensors(*memory_file(file_of("{}"))));
  EXPECT_TRUE(is_safetensors(InputFile(golden / "dtypes.safetensors")));
  for (const std::string& bytes : {std::string(), std::string("PK\3\4....{"), std::string("\x80\2\x8a\x0a...."),
                                   file_of("[]"), length_says(UINT64_MAX), std::string("{\"a\": {}}")})
    EXPECT_FALSE(is_safetensors(*memory_file(bytes))) << bytes;
  EXPECT_FALSE(is_safetensors(InputFile(fs::path(IGPT_GOLDEN) / "checkpoints/dtypes.zip2.pt")));
  EXPECT_FALSE(is_safetensors(InputFile(fs::path(IGPT_GOLDEN) / "checkpoints/dtypes.legacy2.pt")));
}

StoredTensor stored(DType dtype, std::vector<int64_t> sizes, const std::string& bytes) {
  const auto owner = std::make_shared<const std::string>(bytes);
  const auto strides = contiguous_strides(sizes);
  return {std::make_shared<const Storage>(SharedBytes{std::as_bytes(std::span(*owner)), owner}), dtype, 0, sizes,
          strides};
}

TEST(SafetensorsFile, IsReadAsItWasWritten) {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  StoredTensor part = stored(DType::int16, {2}, "aabbccdd");
  part.offset = 1;
  write_safetensors(path,
                    {{"half", stored(DType::float16, {2, 2}, "12345678")},
                     {"wide", stored(DType::float64, {}, "abcdefgh")},
                     {"part", part},
                     {"none", stored(DType::float32, {0, 3}, "")},
                     {"\n\"\x01 \xC3\xA9", stored(DType::boolean, {1}, "\1")}},
                    {{"step", "3"}, {"quo\"te", "line\nline"}});
  const std::string bytes = read_bytes(path);
  EXPECT_EQ(bytes[0] % 8, 0);
  const SafetensorsReader reader(path);
  EXPECT_EQ(reader.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"step", "3"}, {"quo\"te", "line\nline"}}));
  ASSERT_EQ(reader.tensors().size(), 5u);
  const auto read = [&](const std::string& name) { return hex(reader.read(*reader.find(name)).storage->bytes()); };
  EXPECT_EQ(read("half"), hex(std::string("12345678")));
  EXPECT_EQ(read("wide"), hex(std::string("abcdefgh")));
  EXPECT_EQ(read("part"), hex(std::string("bbcc")));
  EXPECT_EQ(read("none"), "");
  EXPECT_EQ(read("\n\"\x01 \xC3\xA9"), "01");
  EXPECT_LT(reader.find("wide")->offset, reader.find("half")->offset);
  EXPECT_EQ((reader.find("wide")->offset) % 8, 0u);
}

TEST(SafetensorsFile, HasAHeaderOfTheFewestBytesThatAreAMultipleOfEight) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  for (size_t i = 1; i <= 8; ++i) {
    write_safetensors(path, {{std::string(i, 'n'), stored(DType::uint8, {0}, "")}});
    const std::string bytes = read_bytes(path);
    EXPECT_EQ(bytes.size() % 8, 0u);
    EXPECT_LT(bytes.size() - bytes.rfind('}'), 9u) << bytes;
    EXPECT_EQ(SafetensorsReader(path).tensors().size(), 1u);
  }
}

TEST(SafetensorsFile, WritingRefusesWhatWouldNotBeRead) {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  const StoredTensor good = stored(DType::uint8, {2}, "ab");
  StoredTensor transposed = stored(DType::uint8, {2, 2}, "abcd");
  transposed.strides = {1, 2};
  StoredTensor beyond = good;
  beyond.offset = 1;
  const auto refused_tensor = [&](const std::string& name, const StoredTensor& tensor) {
    return refusal([&] { write_safetensors(path, {{"good", good}, {name, tensor}}); });
  };
  EXPECT_EQ(refused_tensor("__metadata__", good),
            path.string() + ": the tensor __metadata__ has a name that the format keeps for itself");
  EXPECT_THAT(refused_tensor("good", good), HasSubstr("good is given twice"));
  EXPECT_THAT(refused_tensor("good", stored(DType::int64, {0}, "")), HasSubstr("good is given twice"));
  EXPECT_THAT(refused_tensor("\xff", good), HasSubstr("\\xff has a name that is not UTF-8"));
  EXPECT_THAT(refused_tensor(std::string(1025, 'a'), good), HasSubstr("has a name of more than 1024 bytes"));
  EXPECT_THAT(refused_tensor("a", transposed), HasSubstr("a is not contiguous"));
  EXPECT_THAT(refused_tensor("a", beyond), HasSubstr("a reaches beyond the end of its storage"));
  EXPECT_THAT(refused_tensor("a", stored(DType::complex128, {0}, "")), HasSubstr("a is of the dtype complex128"));
  EXPECT_THAT(refused_tensor("a", stored(DType::uint8, {0, int64_t{1} << 48}, "")), HasSubstr("a is too large"));
  EXPECT_THAT(refusal([&] { write_safetensors(path, {}, {{"a", "\xff"}}); }), HasSubstr("the metadata a is not UTF-8"));
  EXPECT_THAT(refusal([&] {
                write_safetensors(path, {}, {{"a", std::string(16 << 20, 'x')}});
              }),
              HasSubstr("has more"));
  EXPECT_TRUE(folder.names().empty());
}

TEST(SafetensorsFile, PythonReadsIt) {
  const TemporaryFolder folder;
  write_safetensors(folder / "x.safetensors",
                    {{"a", stored(DType::float32, {2}, std::string("\0\0\x80\x3f\0\0\0\x40", 8))},
                     {"b", stored(DType::uint8, {0, 3}, "")},
                     {"\xC3\xA9\n", stored(DType::int64, {}, std::string("\3\0\0\0\0\0\0\0", 8))}});
  write_bytes(folder / "read.py", R"(
import sys
try:
    import numpy, safetensors
except ImportError:
    sys.exit(77)
with safetensors.safe_open('x.safetensors', 'numpy') as file:
    assert file.metadata() == {'format': 'pt'}, file.metadata()
    assert sorted(file.keys()) == ['a', 'b', '\u00e9\n'], file.keys()
    assert file.get_tensor('a').tolist() == [1, 2]
    assert file.get_tensor('b').shape == (0, 3)
    assert file.get_tensor('\u00e9\n') == 3
)");
  const fs::path own = IGPT_SOURCE "/.venv/bin/python";
  const std::string python = fs::exists(own) ? own.string() : "python3";
  const int status = std::system(("cd " + folder.path().string() + " && " + python + " read.py").c_str());
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127))
    GTEST_SKIP() << "without a Python that has safetensors and numpy";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace igpt::formats
