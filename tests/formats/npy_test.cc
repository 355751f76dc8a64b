#include "igpt/formats/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <sstream>

#include "igpt/error.h"
#include "npy_floats.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::floats_of;
using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string dictionary(const std::string& descr, const std::string& shape, const std::string& fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
}

std::string file_of(int version, const std::string& dictionary, const std::string& values) {
  std::string file = "\x93NUMPY";
  file += {static_cast<char>(version), '\0'};
  const size_t length = dictionary.size();
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) file += static_cast<char>(length >> (8 * i) & 0xff);
  return file + dictionary + values;
}

class Npy : public ::testing::Test {
 protected:
  std::filesystem::path put(const std::string& bytes) {
    write_bytes(folder_ / "x.npy", bytes);
    return folder_ / "x.npy";
  }
  TemporaryFolder folder_;
};

TEST_F(Npy, RoundTripsWhatIsWritten) {
  const std::vector<uint8_t> tokens = {0, 1, 15, 255, 7, 8};
  const std::vector<int64_t> labels = {0, -1, INT64_MIN, INT64_MAX};
  const std::vector<double> losses = {0.25, -1e300, std::numeric_limits<double>::infinity()};
  write_npy(folder_ / "t.npy", {1, 2, 3}, tokens);
  write_npy(folder_ / "l.npy", {4}, labels);
  write_npy(folder_ / "d.npy", {3, 1}, losses);
  EXPECT_EQ(read_npy<uint8_t>(folder_ / "t.npy").values, tokens);
  EXPECT_THAT(read_npy<uint8_t>(folder_ / "t.npy").shape, ElementsAre(1, 2, 3));
  EXPECT_EQ(read_npy<int64_t>(folder_ / "l.npy").values, labels);
  EXPECT_EQ(floats_of(folder_ / "d.npy"), losses);
  EXPECT_EQ(dtype_name(read_npy_header(folder_ / "d.npy").dtype), "float64");
}

// The bytes that numpy.save writes for numpy.arange(6, dtype=numpy.uint8).reshape(2, 3) and for one number.
TEST_F(Npy, WritesTheBytesThatNumPyWrites) {
  write_npy(folder_ / "x.npy", {2, 3}, std::vector<uint8_t>{0, 1, 2, 3, 4, 5});
  const std::string text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }";
  std::string expected = std::string("\x93NUMPY\x01\x00\x76\x00", 10) + text;
  expected += std::string(127 - expected.size(), ' ') + "\n" + std::string("\0\1\2\3\4\5", 6);
  EXPECT_EQ(read_bytes(folder_ / "x.npy"), expected);
  EXPECT_THAT(npy_header(DType::float64, {5}), HasSubstr("'descr': '<f8', 'fortran_order': False, 'shape': (5,), }"));
  EXPECT_THAT(npy_header(DType::int64, {}), HasSubstr("'shape': (), }"));
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {1}, {60000, 28, 28}, {1, 1, 1, 1, 1, 1, 1, 1}})
    EXPECT_EQ(npy_header(DType::int64, shape).size() % 64, 0u);
}

TEST_F(Npy, WritingRefusesAShapeThatIsNotThatOfTheValues) {
  const std::vector<uint8_t> four(4);
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{}, {3}, {-2, -2}, {INT64_MAX, 4}, {int64_t{1} << 32, int64_t{1} << 32}})
    EXPECT_THROW(write_npy(folder_ / "x.npy", shape, four), InputError);
  EXPECT_TRUE(folder_.names().empty());
}

struct DtypeCase {
  std::string descr, bytes, name;
  int64_t value;  // the second of two; the first is 1
};

class NpyDtype : public ::testing::TestWithParam<DtypeCase> {};

TEST_P(NpyDtype, IsRead) {
  TemporaryFolder folder;
  const DtypeCase& test = GetParam();
  for (const int version : {1, 2, 3}) {
    write_bytes(folder / "x.npy", file_of(version, dictionary(test.descr, "(2,)"), test.bytes));
    EXPECT_THAT(read_npy<int64_t>(folder / "x.npy").values, ElementsAre(1, test.value)) << "version " << version;
    EXPECT_EQ(dtype_name(read_npy_header(folder / "x.npy").dtype), test.name);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, NpyDtype,
    ::testing::Values(DtypeCase{"|b1", {"\1\0", 2}, "bool", 0}, DtypeCase{"|u1", "\x01\xff", "uint8", 255},
                      DtypeCase{"|i1", "\x01\xff", "int8", -1}, DtypeCase{"<u1", "\x01\x02", "uint8", 2},
                      DtypeCase{"<u2", {"\1\0\2\3", 4}, "uint16", 0x302},
                      DtypeCase{">u2", {"\0\1\2\3", 4}, "uint16", 0x203},
                      DtypeCase{"<i2", {"\1\0\xfe\xff", 4}, "int16", -2},
                      DtypeCase{">i2", {"\0\1\xff\xfe", 4}, "int16", -2},
                      DtypeCase{"<i4", {"\1\0\0\0\xfe\xff\xff\xff", 8}, "int32", -2},
                      DtypeCase{">u4", {"\0\0\0\1\xff\xff\xff\xff", 8}, "uint32", 0xffffffff},
                      DtypeCase{"<i8", {"\1\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff", 16}, "int64", -2},
                      DtypeCase{">i8", {"\0\0\0\0\0\0\0\1\x7f\xff\xff\xff\xff\xff\xff\xff", 16}, "int64", INT64_MAX},
                      DtypeCase{"<u8", {"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16}, "uint64", 2}));

TEST_F(Npy, ValuesOutOfRangeAreNamedWithTheirPlace) {
  const auto tokens =
      put(file_of(1, dictionary("<i8", "(2, 1, 2)"),
                  std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0", 32)));
  EXPECT_THAT([&] { read_npy<uint8_t>(tokens, 0, 16); },
              ThrowsMessage<InputError>(HasSubstr("holds 17 at (1, 0, 1), allowed are 0 to 16")));
  EXPECT_EQ(read_npy<uint8_t>(tokens, 0, 17).values.back(), 17);
  const auto beyond = put(file_of(1, dictionary("<u8", "(1,)"), std::string(8, '\xff')));
  EXPECT_THAT([&] { read_npy<int64_t>(beyond); },
              ThrowsMessage<InputError>(HasSubstr("holds 18446744073709551615 at (0,)")));
  const auto negative = put(file_of(1, dictionary("|i1", "()"), "\x80"));
  EXPECT_THAT([&] { read_npy<uint8_t>(negative); }, ThrowsMessage<InputError>(HasSubstr("holds -128 at ()")));
  EXPECT_THROW(read_npy<int64_t>(negative, -127), InputError);
}

TEST_F(Npy, FloatsAreNoTokens) {
  const auto path = put(file_of(1, dictionary("<f4", "(1,)"), std::string("\0\0\x80\x3f", 4)));
  EXPECT_THAT([&] { read_npy<uint8_t>(path); },
              ThrowsMessage<InputError>(HasSubstr("holds float32, whole numbers are")));
  EXPECT_THAT([&] { read_npy<int64_t>(path, 0, INT64_MAX, "write others"); },
              ThrowsMessage<InputError>(HasSubstr("whole numbers are needed, 0 or more; write others")));
}

TEST_F(Npy, OtherDtypesAreNamed) {
  EXPECT_THAT([&] { read_npy<uint8_t>(put(file_of(1, dictionary("<f2", "(1,)"), "ab"))); },
              ThrowsMessage<InputError>(HasSubstr("holds values of dtype <f2, which is not read; whole numbers are")));
}

TEST_F(Npy, RefusesEveryTruncationAndExcess) {
  for (const int version : {1, 2}) {
    const std::string file = file_of(version, dictionary("<i4", "(2, 1)"), std::string(8, '\0'));
    for (size_t size = 0; size < file.size(); ++size)
      EXPECT_THROW(read_npy<int64_t>(put(file.substr(0, size))), InputError) << "cut after " << size;
    EXPECT_THAT(
        [&] { read_npy<int64_t>(put(file + "x")); },
        ThrowsMessage<InputError>(HasSubstr("holds 9 bytes of values where the shape (2, 1) of int32 needs 8")));
  }
}

TEST_F(Npy, RefusesLyingShapesWithoutTakingMemory) {
  for (const char* shape :
       {"(-1,)", "(1000000000000,)", "(9223372036854775807,)", "(9223372036854775808,)", "(4294967296, 4294967296)",
        "(99999999999999999999999999,)", "(0, 9223372036854775807, 9223372036854775807)", "(2,)", "(0,)"})
    EXPECT_THROW(read_npy<int64_t>(put(file_of(1, dictionary("<i8", shape), "12345678"))), InputError) << shape;
}

TEST_F(Npy, AZeroDoesNotHideThatOtherSizesAreImpossible) {
  EXPECT_TRUE(read_npy<int64_t>(put(file_of(1, dictionary("<i8", "(3, 0, 28)"), ""))).values.empty());
  for (const char* shape : {"(0, 9223372036854775807, 9223372036854775807)", "(9223372036854775807, 0, 4)"})
    EXPECT_THROW(read_npy<int64_t>(put(file_of(1, dictionary("<i8", shape), ""))), InputError) << shape;
}

TEST_F(Npy, RefusesHeadersThatNumPyWouldNotWrite) {
  const std::string one = "x";
  for (const std::string& text : {
           std::string(),
           std::string("\n"),
           std::string("{}"),
           dictionary("|u1", "(1)"),
           dictionary("|u1", "1"),
           dictionary("|u1", "(1,"),
           dictionary("|u1", "(,)"),
           dictionary("|u1", "(1, 1 1)"),
           dictionary("|u1", "(+1,)"),
           dictionary("|u1", "(1.0,)"),
           dictionary("|u1", "(1,)", "false"),
           dictionary("|u1", "(1,)", "0"),
           dictionary("", "(1,)"),
           dictionary("|", "(1,)"),
           dictionary("|O", "(1,)"),
           dictionary("<U1", "(1,)"),
           dictionary("<c8", "(1,)"),
           dictionary("|u3", "(1,)"),
           dictionary("|u2", "(1,)"),
           dictionary("|uint8", "(1,)"),
           dictionary("u", "(1,)"),
           dictionary("!u1", "(1,)"),
           dictionary("@B", "(1,)"),
           dictionary("u1 ", "(1,)"),
           dictionary("U8", "(1,)"),
           dictionary("UInt8", "(1,)"),
           dictionary("half", "(1,)"),
           dictionary("e", "(1,)"),
           dictionary("|u1", "(1LL,)"),
           dictionary("|u1", "(1l,)"),
           dictionary("|u1", "(L,)"),
           dictionary("|u1", "(1L)"),
           dictionary("|u1", "(1,)\v"),
           std::string("{'descr': u '|u1', 'fortran_order': False, 'shape': (1,), }"),
           std::string("{'descr': b'|u1', 'fortran_order': False, 'shape': (1,), }"),
           std::string("{'descr': uu'|u1', 'fortran_order': False, 'shape': (1,), }"),
           dictionary("<f2", "(1,)"),
           dictionary("|V1", "(1,)"),
           dictionary("|u1", "(1,)") + "x",
           std::string("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1,), }"),
           std::string("{'descr': '|u1', 'fortran_order': False, }"),
           std::string("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1,), }"),
           std::string("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
           std::string("{'descr': '|u1' 'fortran_order': False, 'shape': (1,), }"),
           "{'descr': '" + std::string(60'000, 'u') + "', 'fortran_order': False, 'shape': (1,), }",
           "{'descr': '|u1', 'fortran_order': False, 'shape': (" + std::string(60'000, '(') + ", }",
       })
    EXPECT_THROW(read_npy<uint8_t>(put(file_of(1, text, one))), InputError) << text.substr(0, 100);
  std::string many = "(";
  for (int i = 0; i < 33; ++i) many += "1, ";
  EXPECT_THROW(read_npy<uint8_t>(put(file_of(1, dictionary("|u1", many + ")"), one))), InputError);
}

TEST_F(Npy, ReadsHeadersThatOtherWritersWrite) {
  for (const char* text : {"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }",
                           "{\"shape\":(1,),\"fortran_order\":False,\"descr\":\"|u1\"}",
                           "  { 'shape' : ( 1 , ) , 'descr' : '<u1' , 'fortran_order' : True }  \n",
                           "{'descr': u'|u1', 'fortran_order': False, 'shape': (1L,), }",
                           "{u'descr': U\"|u1\", u'fortran_order': False, u'shape': (1 L, )}",
                           "\t{\r\n'descr':\t'|u1',\r'fortran_order':\tFalse,\f'shape':\t(\r1\t,\n)\t}\t\r\n"})
    EXPECT_THAT(read_npy<uint8_t>(put(file_of(2, text, "x"))).values, ElementsAre('x')) << text;
}

TEST_F(Npy, LongIntegersEndedBeforeVersion3) {
  for (const int version : {1, 2, 3}) {
    const auto path = put(file_of(version, dictionary("|u1", "(2L, 1L)"), "ab"));
    if (version < 3)
      EXPECT_THAT(read_npy<uint8_t>(path).shape, ElementsAre(2, 1));
    else
      EXPECT_THROW(read_npy<uint8_t>(path), InputError);
  }
}

// On 64-bit little-endian Linux, numpy.dtype() of each spelling is the dtype of this name.
TEST_F(Npy, ReadsEverySpellingOfItsDtypes) {
  const struct {
    const char *name, *alone, *codes;
    int64_t item_size;
  } cases[] = {
      {"bool", "bool bool_", "b1 ?", 1},
      {"int8", "int8 byte", "i1 b", 1},
      {"uint8", "uint8 ubyte", "u1 B", 1},
      {"int16", "int16 short", "i2 h", 2},
      {"uint16", "uint16 ushort", "u2 H", 2},
      {"int32", "int32 intc", "i4 i", 4},
      {"uint32", "uint32 uintc", "u4 I", 4},
      {"int64", "int64 int int_ long longlong intp", "i8 l q p n", 8},
      {"uint64", "uint64 uint ulong ulonglong uintp", "u8 L Q P N", 8},
      {"float32", "float32 single", "f4 f", 4},
      {"float64", "float64 double float", "f8 d", 8},
  };
  const auto expect_read = [&](const std::string& descr, const std::string& name, int64_t item_size) {
    const auto path = put(file_of(1, dictionary(descr, "(2,)"), std::string(2 * static_cast<size_t>(item_size), '\0')));
    EXPECT_EQ(dtype_name(read_npy_header(path).dtype), name) << descr;
    EXPECT_EQ(read_npy_header(path).big_endian, descr[0] == '>' && item_size > 1) << descr;
  };
  for (const auto& test : cases) {
    std::istringstream alone(test.alone), codes(test.codes);
    for (std::string word; alone >> word;) expect_read(word, test.name, test.item_size);
    for (std::string word; codes >> word;)
      for (const char* order : {"", "<", ">", "=", "|"}) expect_read(order + word, test.name, test.item_size);
  }
}

TEST_F(Npy, RefusesFortranOrderUnlessItIsTheSame) {
  EXPECT_THAT([&] { read_npy<uint8_t>(put(file_of(1, dictionary("|u1", "(2, 2)", "True"), "abcd"))); },
              ThrowsMessage<InputError>(HasSubstr("is in Fortran order; save it again with numpy.ascontiguousarray")));
  EXPECT_THAT(read_npy<uint8_t>(put(file_of(1, dictionary("|u1", "(1, 2, 1)", "True"), "ab"))).values,
              ElementsAre('a', 'b'));
}

TEST_F(Npy, RefusesOtherFilesAndVersions) {
  EXPECT_THAT([&] { read_npy<uint8_t>(put("\x89PNG\r\n\x1a\n and so on")); },
              ThrowsMessage<InputError>(HasSubstr("is not an .npy file")));
  std::string file = file_of(1, dictionary("|u1", "(1,)"), "x");
  for (const char version : {0, 4, 127}) {
    file[6] = version;
    EXPECT_THROW(read_npy<uint8_t>(put(file)), InputError);
  }
  std::string long_header = file_of(2, dictionary("|u1", "(1,)"), "x");
  for (const char byte : {'\x7f', '\xff'}) {
    long_header[11] = byte;
    EXPECT_THROW(read_npy<uint8_t>(put(long_header)), InputError);
  }
}

TEST_F(Npy, LargeArraysAreReadInPieces) {
  std::vector<int64_t> values(300'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int64_t>(i * i % 251);
  write_npy(folder_ / "x.npy", {3, 100'000}, values);
  const auto tokens = read_npy<uint8_t>(folder_ / "x.npy", 0, 250);
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(tokens.values[i], values[i]) << i;
}

}  // namespace
}  // namespace igpt::formats
