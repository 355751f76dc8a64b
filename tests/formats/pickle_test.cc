#include "igpt/formats/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/checkpoint_text.h"
#include "formats/hostile.h"

namespace igpt::formats {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

PickleValue load(const std::string& bytes, UnpickleOptions options = {}) {
  ByteReader reader(std::as_bytes(std::span(bytes)), "x.ckpt: data.pkl");
  return unpickle(reader, options);
}

std::string text(const std::string& bytes) {
  return one_value(load(bytes));
}

std::string short_text(const std::string& value) {
  return "\x8c" + std::string(1, static_cast<char>(value.size())) + value;
}

std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

TEST(Unpickle, EveryOpcodeOfPlainDataIsUnderstood) {
  EXPECT_EQ(text("N."), "None");
  EXPECT_EQ(text("\x80\x05\x88."), "bool True");
  EXPECT_EQ(text("\x89."), "bool False");
  EXPECT_EQ(text("I01\n."), "bool True");
  EXPECT_EQ(text("I-7\n."), "int -7");
  EXPECT_EQ(text("L1234567890123L\n."), "int 1234567890123");
  EXPECT_EQ(load("F0.25\n.").as_double(), 0.25);
  EXPECT_EQ(text("K\xff."), "int 255");
  EXPECT_EQ(text("M\x01\x02."), "int 513");
  EXPECT_EQ(text("J\xfe\xff\xff\xff."), "int -2");
  EXPECT_EQ(text("\x8a\0."s), "int 0");
  EXPECT_EQ(text("\x8a\x02\0\xff."s), "int -256");
  EXPECT_EQ(text("\x8a\x08\0\0\0\0\0\0\0\x80."s), "int -9223372036854775808");
  EXPECT_EQ(text("\x8b\x09\0\0\0\0\0\0\0\0\0\0\0\x01."s), "int big");
  EXPECT_EQ(load("G\x3f\xf8\0\0\0\0\0\0."s).as_double(), 1.5);
  EXPECT_EQ(text("U\x02hi."), "str hi");
  EXPECT_EQ(text("T\x02\0\0\0hi."s), "str hi");
  EXPECT_EQ(text("X\x02\0\0\0hi."s), "str hi");
  EXPECT_EQ(text("\x8c\x02hi."), "str hi");
  EXPECT_EQ(text("\x8d\x02\0\0\0\0\0\0\0hi."s), "str hi");
  EXPECT_EQ(text("C\x02hi."), "bytes 6869");
  EXPECT_EQ(text("B\x02\0\0\0hi."s), "bytes 6869");
  EXPECT_EQ(text("\x8e\x02\0\0\0\0\0\0\0hi."s), "bytes 6869");
  EXPECT_EQ(text("\x96\x02\0\0\0\0\0\0\0hi."s), "bytes 6869");
}

TEST(Unpickle, ContainersMemoAndStackWorkAsInPython) {
  const auto tree = [](const std::string& bytes) { return checkpoint_text(load(bytes)); };
  EXPECT_EQ(tree(")."), "\ttuple 0\n");
  EXPECT_EQ(tree("NNN\x87\x85."), "\ttuple 1\n/0\ttuple 3\n/0/0\tNone\n/0/1\tNone\n/0/2\tNone\n");
  EXPECT_EQ(tree("(K\1K\2K\3K\4t."), tree("](K\1K\2K\3K\4e.").replace(1, 4, "tuple"));
  EXPECT_EQ(tree("(K\1l."), "\tlist 1\n/0\tint 1\n");
  EXPECT_EQ(tree("]K\1a."), "\tlist 1\n/0\tint 1\n");
  EXPECT_EQ(tree("(\x8c\1aK\1d."), "\tdict 1\n/a\tint 1\n");
  EXPECT_EQ(tree("}\x8c\1aK\1s(\x8c\1bK\2\x8c\1cK\3u."), "\tdict 3\n/a\tint 1\n/b\tint 2\n/c\tint 3\n");
  EXPECT_EQ(tree("\x8f(K\1K\2\x90."), "\tset 2\n");
  EXPECT_EQ(tree("(K\1\x91."), "\tset 1\n");
  EXPECT_EQ(tree("K\5q\0"
                 "0(h\0h\0t."s),
            "\ttuple 2\n/0\tint 5\n/1\tint 5\n");
  EXPECT_EQ(tree("K\5r\1\2\3\4"
                 "0j\1\2\3\4."),
            "\tint 5\n");
  EXPECT_EQ(tree("K\5\x94K\6\x94"
                 "00h\1."),
            "\tint 6\n");
  EXPECT_EQ(tree("K\5p12\n0g12\n."), "\tint 5\n");
  EXPECT_EQ(tree("K\5"
                 "2\x86."),
            "\ttuple 2\n/0\tint 5\n/1\tint 5\n");
  EXPECT_EQ(tree("K\5(K\6K\7"
                 "1."),
            "\tint 5\n");
  EXPECT_EQ(tree("K\5(0."), "\tint 5\n");
  EXPECT_EQ(tree("\x80\4\x95\2\0\0\0\0\0\0\0K\5."s), "\tint 5\n");
}

TEST(Unpickle, AllowedCallsBecomeData) {
  const auto tree = [](const std::string& bytes) { return checkpoint_text(load(bytes)); };
  EXPECT_EQ(tree(global("collections", "OrderedDict") + ")R\x8c\1aK\1s."), "\tdict 1\n/a\tint 1\n");
  EXPECT_EQ(tree(global("collections", "OrderedDict") + "](]\x8c\1aaK\1ae\x85R."), "\tdict 1\n/a\tint 1\n");
  EXPECT_EQ(tree(global("argparse", "Namespace") + ")\x81}\x8c\1aK\1sb."), "\tdict 1\n/a\tint 1\n");
  EXPECT_EQ(load(global("argparse", "Namespace") + ")\x81.").type_name(), "argparse.Namespace");
  EXPECT_EQ(load(global("lightning.pytorch.utilities.parsing", "AttributeDict") + ")\x81.").type_name(),
            "pytorch_lightning.utilities.parsing.AttributeDict");
  EXPECT_EQ(tree(global("copy_reg", "_reconstructor") + global("argparse", "Namespace") +
                 global("__builtin__", "object") + "N\x87R}\x8c\1aK\1sb."),
            "\tdict 1\n/a\tint 1\n");
  EXPECT_EQ(tree(global("_codecs", "encode") + "\x8c\3\xc3\xbf"
                                               "a\x8c\6latin1\x86R."),
            "\tbytes ff61\n");
  EXPECT_EQ(tree(global("pathlib", "PosixPath") + "\x8c\1/\x8c\1"
                                                  "a\x8c\1"
                                                  "b\x87R."),
            "\tstr /a/b\n");
  EXPECT_EQ(tree(global("torch", "Size") + "K\2K\3\x86\x85R."), "\ttuple 2\n/0\tint 2\n/1\tint 3\n");
  EXPECT_EQ(load(global("torch", "float16") + ".").type_name(), "torch.float16");
  const auto dtype = global("numpy", "dtype") + "\x8c\2f8\x89\x88\x87R";
  EXPECT_THAT(refusal([&] { load(dtype + "(K\3\x8c\1>NNtb."); }), HasSubstr("big-endian"));
}

TEST(Unpickle, NumpyScalarsOfEveryWidthAreNumbers) {
  const struct {
    const char* dtype;
    std::string bytes, text;
  } cases[] = {
      {"b1", "\1", "bool True"},
      {"b1", "\0"s, "bool False"},
      {"i1", "\xfe", "int -2"},
      {"u1", "\xfe", "int 254"},
      {"i2", "\xfe\xff", "int -2"},
      {"u2", "\xfe\xff", "int 65534"},
      {"i4", "\xfe\xff\xff\xff", "int -2"},
      {"u4", "\xfe\xff\xff\xff", "int 4294967294"},
      {"i8", "\xfe\xff\xff\xff\xff\xff\xff\xff", "int -2"},
      {"u8", "\x10\0\0\0\0\0\0\0"s, "int 16"},
      {"u8", "\xff\xff\xff\xff\xff\xff\xff\xff", "int big"},
      {"f2", "\0\x3e"s, one_value(1.5)},
      {"f4", "\0\0\xc0\x3f"s, one_value(1.5)},
      {"f8", "\0\0\0\0\0\0\xf8\x3f"s, one_value(1.5)},
      {"f16", std::string(16, 'x'), "object"},
      {"i4", "\1\0"s, "object"},  // too short
  };
  for (const std::string module : {"numpy.core.multiarray", "numpy._core.multiarray"})
    for (const auto& test : cases) {
      const std::string dtype = global("numpy", "dtype") + short_text(test.dtype) + "\x89\x88\x87R";
      const std::string state =
          "(K\3" + short_text(test.dtype[1] == '1' ? "|" : "<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"s;
      const std::string bytes = "C" + std::string(1, static_cast<char>(test.bytes.size())) + test.bytes;
      EXPECT_EQ(text(global(module, "scalar") + dtype + state + bytes + "\x86R."), test.text) << test.dtype;
    }
}

// Values that Python's hash() refuses, for which torch.load refuses the file.
class Unhashable : public ::testing::TestWithParam<std::string> {};

TEST_P(Unhashable, IsNoKeyAndNoItemOfASet) {
  const std::string& value = GetParam();
  for (const std::string& bytes :
       {"}" + value + "Ns.", "}(" + value + "Nu.", "(" + value + "Nd.", "}" + value + "\x85Ns.",
        global("collections", "OrderedDict") + "](](" + value + "K\1ee\x85R."})
    EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("as key of a dict (byte ")) << hex(bytes);
  for (const std::string& bytes :
       {"\x8f(" + value + "\x90.", "(" + value + "\x91.", global("builtins", "set") + "](" + value + "e\x85R."})
    EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("as item of a set (byte ")) << hex(bytes);
}

INSTANTIATE_TEST_SUITE_P(All, Unhashable,
                         ::testing::Values("]", "}", "\x8f", "\x96\1\0\0\0\0\0\0\0a"s, "(K\1]t", ")]\x86\x85",
                                           global("collections", "OrderedDict") + ")R",
                                           global("argparse", "Namespace") + ")\x81",
                                           global("collections", "deque") + ")R",
                                           global("builtins", "bytearray") + ")R",
                                           global("numpy.core.multiarray", "_reconstruct") + ")R"));

TEST(Unpickle, WhatPythonCanHashIsAKey) {
  for (const std::string& value :
       {"N"s, "\x88"s, "K\1"s, "G\x3f\xf0\0\0\0\0\0\0"s, "\x8c\1a"s, "C\1a"s, ")"s, "(K\1)t"s, "(K\1\x91"s,
        "\x8a\x09\0\0\0\0\0\0\0\0\1"s, global("torch", "float32"), global("builtins", "frozenset") + "]\x85R",
        global("torch", "Size") + "K\1\x85\x85R"}) {
    EXPECT_EQ(load("}" + value + "Ns.").entries().size(), 1u) << hex(value);
    EXPECT_EQ(load("\x8f(" + value + "\x90.").items().size(), 1u) << hex(value);
  }
  EXPECT_THAT(refusal([] { load("(K\1\x91(K\2\x90."); }), HasSubstr("added to a frozenset"));
}

TEST(Unpickle, TwoEntriesOfOneKeyAreRefused) {
  const std::string two = "(\x8c\1aK\1\x8c\1aK\2";
  for (const std::string& bytes :
       {"}" + two + "u.", two + "d.", "}\x8c\1aK\1s\x8c\1aK\2s."s, "}\x8c\5inner}" + two + "us.",
        global("argparse", "Namespace") + ")\x81}" + two + "ub.",
        global("argparse", "Namespace") + ")\x81}\x8c\1aK\1sb}\x8c\1aK\2sb.",
        global("collections", "OrderedDict") + "](](\x8c\1aK\1e](\x8c\1aK\2ee\x85R.",
        global("collections", "OrderedDict") + ")R" + two + "u."})
    EXPECT_THAT(refusal([&] { load(bytes); }),
                HasSubstr("holds two entries of the key a, which contradict each other (byte "))
        << hex(bytes);
  EXPECT_THAT(refusal([] { load("}(K\1NK\1Nu."); }), HasSubstr("two entries of the key 1"));
}

// As pickle.load decodes it: str with surrogatepass, and Python 2's strings, which torch.load expects to be UTF-8,
// without.
TEST(Unpickle, TextIsUtf8) {
  const auto texts = [](const std::string& content) {
    const auto size = static_cast<uint32_t>(content.size());
    return std::vector<std::string>{short_text(content) + ".", "X" + little_endian(size) + content + ".",
                                    "\x8d" + little_endian(uint64_t{size}) + content + "."};
  };
  const auto python2 = [](const std::string& content) {
    const auto size = static_cast<uint32_t>(content.size());
    return std::vector<std::string>{"U" + std::string(1, static_cast<char>(size)) + content + ".",
                                    "T" + little_endian(size) + content + "."};
  };
  for (const std::string& good : {""s, "a\0b"s, "caf\xc3\xa9"s, "\xe6\xa8\xa1"s, "\xed\x9f\xbf"s, "\xee\x80\x80"s,
                                  "\xf0\x9f\x98\x80"s, "\xf4\x8f\xbf\xbf"s}) {
    for (const auto& bytes : texts(good)) EXPECT_EQ(*load(bytes).as_string(), good);
    for (const auto& bytes : python2(good)) EXPECT_EQ(*load(bytes).as_string(), good);
  }
  for (const std::string& surrogate : {"\xed\xa0\x80"s, "\xed\xbf\xbf"s, "\xed\xa0\x80\xed\xb0\x80"s}) {
    for (const auto& bytes : texts(surrogate)) EXPECT_EQ(*load(bytes).as_string(), surrogate);
    for (const auto& bytes : python2(surrogate))
      EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("has text that is not UTF-8")) << hex(bytes);
  }
  for (const std::string& bad :
       {"\xff"s, "\xfe"s, "\x80"s, "a\xbf"s, "\xc0\x80"s, "\xc1\xbf"s, "\xe0\x80\x80"s, "\xe0\x9f\xbf"s,
        "\xf0\x8f\xbf\xbf"s, "\xf4\x90\x80\x80"s, "\xf5\x80\x80\x80"s, "\xc3"s, "\xe6\xa8"s, "\xf0\x9f\x98"s, "\xc3("s,
        "\xe6\xa8("s, "\xf0\x9f\x98("s, "caf\xe9"s}) {
    for (const auto& bytes : texts(bad))
      EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("has text that is not UTF-8")) << hex(bytes);
    for (const auto& bytes : python2(bad))
      EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("has text that is not UTF-8")) << hex(bytes);
  }
}

// Every way in which a pickle can name or call something.
class Import : public ::testing::TestWithParam<std::string> {};

TEST_P(Import, IsNamedAndNotRun) {
  const auto proof = std::filesystem::path(::testing::TempDir()) / "igpt_pickle_proof";
  std::filesystem::remove(proof);
  std::string bytes = GetParam();
  if (const size_t at = bytes.find("PROOF"); at != bytes.npos) {
    const std::string command = "touch " + proof.string();
    bytes.replace(at, 5, "X" + little_endian(static_cast<uint32_t>(command.size())) + command);
  }
  EXPECT_THAT(refusal([&] { load(bytes); }), HasSubstr("x.ckpt: data.pkl "));
  EXPECT_FALSE(std::filesystem::exists(proof));
}

INSTANTIATE_TEST_SUITE_P(
    Hostile, Import,
    ::testing::Values(global("os", "system") + "PROOF\x85R.", global("posix", "system") + "PROOF\x85R.",
                      short_text("os") + short_text("system") + "\x93PROOF\x85R.",
                      global("builtins", "eval") + "PROOF\x85R.", global("__builtin__", "exec") + "PROOF\x85R.",
                      global("builtins", "getattr") + ".", global("builtins", "__import__") + ".",
                      global("subprocess", "Popen") + "PROOF\x85\x81.",
                      global("subprocess", "Popen") + "PROOF\x85}\x92.", "(PROOFios\nsystem\n.",
                      "(" + global("os", "system") + "PROOFo.", "\x82\1.", "\x83\1\0."s, "\x84\1\0\0\0."s, "S'text'\n.",
                      "V\\u0041\n.", "Ptext\n.", "\x97.", "\x98.", global("torch", "load") + ".",
                      global("torch.hub", "load") + ".", global("torch._utils", "_rebuild_tensor_v2.__globals__") + ".",
                      global("torch", "os.system") + ".", global("numpy", "load") + ".",
                      global("functools", "partial") + ".", global("", "") + ".", global("os\x1b[2J", "system") + ".",
                      global("_codecs", "decode") + ".", global("torch.jit", "_load") + ".", "K\1)R.", "K\1)\x81.",
                      global("torch", "float16") + ")R.", global("builtins", "int") + ")R.",
                      global("builtins", "str") + ")R.",
                      global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") + ")R.",
                      global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") + ")\x81.",
                      "(" + global("argparse", "Namespace").replace(0, 1, "i") + ".",
                      global("argparse", "Namespace") + ")}K\1K\1s\x92.", global("argparse", "Namespace") + "N\x81.",
                      "iargparse\nNamespace\n."));

// Found by pickle_fuzz: the entries were added to the dict that was being read.
TEST(Unpickle, AnObjectIsNotItsOwnState) {
  const auto with_entries = global("argparse", "Namespace") + ")\x81}(" + std::string(32, 'N') + "ub";
  EXPECT_EQ(load(with_entries + ".").entries().size(), 16u);
  EXPECT_THROW(load(with_entries + "2b."), InputError);
}

TEST(Unpickle, UnknownGlobalIsNamed) {
  EXPECT_EQ(refusal([] { load(global("os", "system") + "."); }),
            "x.ckpt: data.pkl asks for os.system, which no checkpoint needs; it was not run. Do not trust this file");
  EXPECT_THAT(refusal([] { load(global("os\x1b[2J", "\r\t") + "."); }), HasSubstr("os\\x1b[2J.\\x0d\\x09"));
}

TEST(Unpickle, OnlyWhatRunsCodeIsCalledUntrustworthy) {
  for (const std::string& bytes :
       {global("os", "system"), global("posix", "system"), global("__builtin__", "exec"), global("builtins", "eval"),
        global("subprocess", "Popen"), global("torch.serialization", "os.system"),
        short_text("torch") + short_text("serialization.os.system") + "\x93", "(ios\nsystem\n"s,
        global("importlib", "import_module"), global("pickle", "loads"), global("runpy", "run_path")})
    EXPECT_THAT(refusal([&] { load(bytes + "."); }), HasSubstr("Do not trust this file")) << hex(bytes);
  for (const std::string& bytes :
       {global("datetime", "datetime"), global("omegaconf.dictconfig", "DictConfig"), global("functools", "partial"),
        global("torch.optim.adam", "Adam"), global("enum", "Enum"), global("__main__", "Precision"),
        global("torch._utils", "_rebuild_sparse_tensor"), global("torch._utils", "_rebuild_device_tensor_from_numpy"),
        global("torch.distributed.tensor", "DTensor"), global("builtins", "print"), global("osprey.system", "Config"),
        global("__builtin__", "getattr"),  // of an enumeration in a class, or torch.relu
        global("my.oslo.sys_config", "X"),
        global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") + ")\x81"}) {
    const std::string message = refusal([&] { load(bytes + "."); });
    EXPECT_THAT(message, HasSubstr("which is not plain data; no code of a file is run. Load it in PyTorch in a place "
                                   "you trust, and save state_dict and hyper_parameters as plain values"));
    EXPECT_EQ(message.find("Do not trust"), message.npos) << message;
  }
}

TEST(Unpickle, AWholeModelIsRecognisedByWhatEveryModuleKeeps) {
  const std::string state = "}(" + short_text("training") + "\x88" + short_text("_parameters") + "}" +
                            short_text("_buffers") + "}" + short_text("_modules") + "}ub.";
  const std::string whole = "holds a whole model and not only its weights: it asks for ";
  for (const auto& [module, name] : {std::pair("__main__", "Net"), {"torch.nn.modules.container", "Sequential"}}) {
    const std::string model = global(module, name) + ")\x81" + state;
    EXPECT_THAT(refusal([&] { load(model); }), HasSubstr(whole + module + "." + name + ", whose code is not run"));
    EXPECT_THAT(refusal([&] { load("}" + short_text("model") + model); }), HasSubstr(whole));
    EXPECT_THAT(refusal([&] { load("}" + short_text("state_dict") + "}s" + short_text("loss") + model); }),
                HasSubstr("holds a module among its values: it asks for " + std::string(module) + "." + name));
  }
  // The legacy container names the class in a persistent id.
  EXPECT_THAT(refusal([] { load("(" + short_text("module") + global("__main__", "Net") + "NNtQ)\x81."); }),
              HasSubstr(whole));
  EXPECT_THAT(refusal([] { load("}(" + short_text("_modules") + global("datetime", "date") + "."); }),
              HasSubstr("not plain data"));
}

class Damaged : public ::testing::TestWithParam<std::string> {};

TEST_P(Damaged, IsRefused) {
  EXPECT_THAT(refusal([] { load(GetParam()); }), HasSubstr("x.ckpt: data.pkl "));
}

const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
INSTANTIATE_TEST_SUITE_P(
    Hostile, Damaged,
    ::testing::Values(
        // Stack and memo.
        ")" + repeated("\x85", PickleValue::max_depth) + ".", "", ".", "0.", "1.", "2.", "a.", "e.", "s.", "u.", "t.",
        "l.", "d.", "\x85.", "\x86.", "\x87.", "\x90.", "\x91.", "R.", "b.", "\x81.", "\x92.", "\x93.", "Q.", "q\0."s,
        "\x94.", "h\0."s, "g1\n.", "j\1\0\0\0."s, "NN.", "(N.", "N(.", "(0(.", "K\1(a.", "](s.", "K\1(\x86.", "NNa.",
        "NNNs.", "](NNu.", "}(Ne.", "}(Nu.", ")Na.", "N}b.", "K\1)b.",
        // Containers inside themselves, or changed inside another one.
        "]q\0h\0a."s, "}q\0Nh\0s."s,
        "]q\0h\0\x85"
        "0h\0Na."s,
        "]q\0(h\0t0h\0h\0a."s,
        // Lengths of -1, 2^31 and 2^63 in front of nothing.
        "X\xff\xff\xff\xff.", "X\0\0\0\x80."s, "T\xff\xff\xff\xff.", "B\xff\xff\xff\xff.", "\x8b\xff\xff\xff\xff.",
        "\x8b\0\0\0\x80."s, "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "\x8d\0\0\0\0\0\0\0\x80."s,
        "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "\x96\0\0\0\0\0\0\0\x80."s, "\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        "U\xff.", "C\xff.", "\x8c\xff.", "\x8a\xff.",
        // Text where numbers should be.
        "I\n.", "Iabc\n.", "L99999999999999999999999L\n.", "F\n.", "F1e\n.", "I1", "p-1\n.", "Np4294967296\n.",
        "\x80\x06N.", "\xff.", std::string(300, 'c'),
        // Calls of allowed globals with wrong arguments.
        rebuild + ")R.", rebuild + "NNNN(NNNNt\x85R.",
        rebuild + "(NK\0))\x89Nt"
                  "R."s,
        global("torch._utils", "_rebuild_parameter") + ")R.", global("collections", "OrderedDict") + "K\1\x85R.",
        global("collections", "OrderedDict") + "](]aa\x85R.",
        global("_codecs", "encode") + "\x8c\1"
                                      "a\x8c\5utf-8\x86R.",
        global("_codecs", "encode") + "\x8c\2\xe6\xa8\x8c\6latin1\x86R.", global("pathlib", "PosixPath") + "K\1\x85R.",
        global("builtins", "set") + "K\1\x85R.",
        global("torch._tensor", "_rebuild_from_type_v2") + global("torch._tensor", "_rebuild_from_type_v2") +
            "N)N(t\x85R.",
        global("numpy", "dtype") + "K\1\x85R.", "K\1K\2\x93."));

TEST(Unpickle, EveryTruncationIsRefused) {
  const std::string whole =
      "\x80\2}q\0(X\1\0\0\0a](K\1M\1\1J\1\1\1\1G\0\0\0\0\0\0\0\0e\x8c\1"
      "b" +
      global("torch", "Size") + "K\1K\2\x86\x85R\x8a\3abcC\2hiu."s;
  ASSERT_NO_THROW(
      load("\x80\2}q\0(X\1\0\0\0a](K\1e\x8c\1"
           "bNu."s));
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(load(whole.substr(0, size)), InputError) << size << " bytes";
}

TEST(Unpickle, LongKeysAreRefused) {
  const auto with_key = [](size_t size) {
    return "}X" + little_endian(static_cast<uint32_t>(size)) + std::string(size, 'k') + "Ns.";
  };
  EXPECT_NO_THROW(load(with_key(PickleValue::max_key_bytes)));
  EXPECT_THAT(refusal([&] { load(with_key(PickleValue::max_key_bytes + 1)); }), HasSubstr("key of 1025"));
}

// Bytes that cost little to write and could cost much to read.
struct Bomb {
  const char* name;
  std::string bytes;
};

class Bombs : public ::testing::TestWithParam<Bomb> {};

TEST_P(Bombs, CostNeitherTimeNorMemory) {
  const std::string& bytes = GetParam().bytes;
  // The pickle itself is in the test's memory already.
  expect_modest(bytes.size() + (uint64_t{64} << 20), [&] {
    try {
      const PickleValue value = load(bytes);
      EXPECT_LT(value.items().size() + value.entries().size(), bytes.size() + 1);
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("x.ckpt: data.pkl "));
    }
  });
}

constexpr size_t million = 1'000'000;

std::string laughs() {
  std::string bytes = "]q\0"s;
  for (int level = 0; level < 250; ++level) bytes += "(h\0h\0h\0h\0tq\0"s;
  return bytes + ".";
}

std::string many_keys(const std::string& key_suffix) {
  std::string bytes = "}(";
  for (uint32_t i = 0; i < 200'000; ++i)
    bytes += "X" + little_endian(static_cast<uint32_t>(4 + key_suffix.size())) + key_suffix + little_endian(i) + "N";
  return bytes + "u.";
}

std::string same_long_keys() {
  std::string bytes = "}";
  for (const char last : {'a', 'b'})
    bytes += "X" + little_endian(uint32_t{1024}) + std::string(1023, 'k') + last + "q" + std::string(1, last) + "0";
  return bytes + "(" + repeated("haNhbN", million) + "u.";
}

INSTANTIATE_TEST_SUITE_P(
    Hostile, Bombs,
    ::testing::Values(
        Bomb{"nested_lists", repeated("(", million) + repeated("l", million) + "."},
        Bomb{"nested_tuples", ")" + repeated("\x85", million) + "."},
        Bomb{"nested_in_lists", repeated("]", million) + repeated("a", million - 1) + "."},
        Bomb{"nested_dicts", repeated("}N", million) + "N" + repeated("s", million) + "."}, Bomb{"laughs", laughs()},
        Bomb{"duplicates", "]" + repeated("2", 20 * million) + "."}, Bomb{"nones", repeated("N", 20 * million)},
        Bomb{"marks", repeated("(", 20 * million)}, Bomb{"lists", repeated("]", 20 * million)},
        Bomb{"dicts", repeated("}", 20 * million)}, Bomb{"sets", repeated("\x8f", 20 * million)},
        Bomb{"tuples", repeated(")", 20 * million)}, Bomb{"list_of_nones", "](" + repeated("N", 2 * million) + "e."},
        Bomb{"lists_made_and_dropped", "N" + repeated("]0", 10 * million) + "."},
        Bomb{"appended", "]" + repeated("Na", 2 * million) + "."},
        Bomb{"memoized", "N" + repeated("\x94", 20 * million) + "."},
        Bomb{"memo_far_apart", "N" + repeated("r\xff\xff\xff\xffr\1\0\0\0"s, million) + "."},
        Bomb{"recalled", "Nq\0"s + repeated("h\0"s, 10 * million)},
        Bomb{"globals", repeated(global("torch", "Size"), million)}, Bomb{"strings", repeated("\x8c\0"s, 10 * million)},
        Bomb{"copied_list", "](" + repeated("N", 1000) + "eq\0"s + "(" +
                                repeated(global("builtins", "set") + "h\0\x85R"s, 100'000) + "l."},
        Bomb{"copied_text", "X" + little_endian(uint32_t{1'000'000}) + std::string(1'000'000, 'x') +
                                "q\0"
                                "0\x8c\6latin1q\1"
                                "0("s +
                                repeated(global("_codecs", "encode") + "h\0h\1\x86R"s, 100'000) + "l."},
        Bomb{"many_keys", many_keys("")}, Bomb{"many_long_keys", many_keys(std::string(100, 'k'))},
        Bomb{"same_long_keys", same_long_keys()}, Bomb{"setitem", "}" + repeated("\x8c\1aNs", million) + "."}),
    [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(Pickle, WhatIsWrittenReadsBack) {
  PickleValue state = PickleValue::ordered_dict();
  state.insert("gpt.sos", 0.5);
  const PickleValue shared = PickleValue::list({1, 2});
  const PickleValue root = PickleValue::dict(
      {{"none", PickleValue()},
       {"bools", PickleValue::list({true, false})},
       {"integers", PickleValue::list({0, 255, 256, -1, INT32_MAX, INT32_MIN, int64_t{1} << 31, INT64_MAX, INT64_MIN})},
       {"floats", PickleValue::tuple({0.1, -0.0, HUGE_VAL})},
       {"text", "caf\xc3\xa9"},
       {"tuples", PickleValue::list({PickleValue::tuple(), PickleValue::tuple({1})})},
       {7, "seven"},
       {"state", state},
       {"shared", PickleValue::list({shared, shared})}});
  std::vector<std::shared_ptr<const Storage>> storages;
  const PickleValue read = load(pickle(root, storages));
  EXPECT_EQ(checkpoint_text(read), checkpoint_text(root));
  EXPECT_TRUE(storages.empty());
  EXPECT_EQ(read.find("state")->type_name(), "collections.OrderedDict");
  EXPECT_EQ(read.find("shared")->items()[0].identity(), read.find("shared")->items()[1].identity());
}

TEST(Pickle, WhatNoCheckpointOfOursHoldsIsNotWritten) {
  std::vector<std::shared_ptr<const Storage>> storages;
  EXPECT_THROW(pickle(PickleValue::set({1}), storages), Error);
  EXPECT_THROW(pickle(PickleValue::opaque("os.system"), storages), Error);
  EXPECT_THROW(pickle(PickleValue::big_integer("0123456789"), storages), Error);
  EXPECT_THROW(pickle(PickleValue::bytes("0123456789"), storages), Error);
  EXPECT_THROW(pickle("caf\xe9", storages), Error);
  EXPECT_NO_THROW(pickle("\xed\xa0\x80", storages)) << "a surrogate, which Python writes and reads";
  EXPECT_THROW(pickle(testing::tensor_of<uint16_t>(DType::uint16, {1}, {1}), storages), Error);
}

}  // namespace
}  // namespace igpt::formats
