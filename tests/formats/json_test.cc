#include "igpt/formats/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "hostile.h"
#include "igpt/formats/json_text.h"
#include "igpt/formats/utf8.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json parse(const std::string& text) {
  return parse_json(text, "config.json");
}

std::string refused(const std::string& text) {
  return refusal([&] { parse(text); });
}

TEST(Json, EveryKindOfValue) {
  const Json root =
      parse(R"( { "n_embd" : 512, "eps": 1e-5, "act": "quick_gelu\u00e9\n", "scale": true, "n_inner": null,
                               "clusters": [[-1, 0.5, 1], []], "size": {"height": 32, "a": 1} } )");
  EXPECT_EQ(root["n_embd"].whole(), 512);
  EXPECT_EQ(root["n_embd"].number(), 512.0);
  EXPECT_EQ(root["eps"].number(), 1e-5);
  EXPECT_EQ(root["act"].text(), "quick_gelu\xC3\xA9\n");
  EXPECT_TRUE(root["scale"].boolean());
  EXPECT_EQ(root["n_inner"].kind(), Json::Kind::null);
  EXPECT_FALSE(root.find("n_inner") || root.find("no_such_key") || root.find(""));
  EXPECT_EQ(root.find("n_embd")->whole(), 512);
  const auto rows = root["clusters"].items();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_THAT(rows[0].numbers(), ElementsAre(-1, 0.5, 1));
  EXPECT_TRUE(rows[1].numbers().empty());
  EXPECT_EQ(root["size"].members()[1].first, "height");
  EXPECT_EQ(root["size"].members()[1].second.whole(), 32);
}

TEST(Json, AValueOutlivesTheRest) {
  const Json height = parse(R"({"size": {"height": [32]}})")["size"]["height"];
  EXPECT_THAT(height.wholes(), ElementsAre(32));
}

TEST(Json, ErrorsNameTheFileAndThePlace) {
  const Json root = parse(R"({"a": 1, "b": 1.0, "c": "x", "d": [1, "y"], "e": {"f\u001b": true}, "g": null})");
  const struct {
    std::function<void()> work;
    std::string message;
  } cases[] = {
      {[&] { root["n_embd"]; }, "config.json: has no n_embd"},
      {[&] { root["b"].whole(); }, "config.json: b: must be a whole number"},
      {[&] { root["c"].whole(); }, "config.json: c: must be a whole number"},
      {[&] { root["g"].whole(); }, "config.json: g: must be a whole number"},
      {[&] { root["a"].whole(at_least(2)); }, "config.json: a 1: must be at least 2"},
      {[&] { root["b"].number(greater_than(1)); }, "config.json: b 1: must be greater than 1"},
      {[&] { root["c"].number(); }, "config.json: c: must be a number"},
      {[&] { root["a"].text(); }, "config.json: a: must be a text"},
      {[&] { root["a"].boolean(); }, "config.json: a: must be true or false"},
      {[&] { root["a"].items(); }, "config.json: a: must be a list"},
      {[&] { root["a"].members(); }, "config.json: a: must be an object"},
      {[&] { root["a"]["b"]; }, "config.json: a: must be an object"},
      {[&] { root["d"].find("b"); }, "config.json: d: must be an object"},
      {[&] { root["d"].wholes(); }, "config.json: d[1]: must be a whole number"},
      {[&] { root["e"]["f\x1b"].text(); }, "config.json: e: f\\x1b: must be a text"},
      {[&] { root["e"]["x"]; }, "config.json: e: has no x"},
  };
  for (const auto& [work, message] : cases) EXPECT_EQ(refusal(work), message);
}

TEST(Json, WholeNumbersAreExactOrRefused) {
  EXPECT_THAT(parse("[9223372036854775807, -9223372036854775808, 9007199254740993, 0, -0]").wholes(),
              ElementsAre(INT64_MAX, INT64_MIN, 9007199254740993, 0, 0));
  for (const char* text : {"9223372036854775808", "18446744073709551616", "-9223372036854775809", "1e300"})
    EXPECT_EQ(refusal([&] { parse(text).whole(); }), "config.json: is too large") << text;
  for (const char* text : {"1.0", "1e2", "0.5", "\"1\"", "true", "[1]"})
    EXPECT_EQ(refusal([&] { parse(text).whole(); }), "config.json: must be a whole number") << text;
  EXPECT_EQ(parse("18446744073709551616").number(), 0x1p64);
  EXPECT_THAT(refused("[1e999]"), HasSubstr("has a number that is too large"));
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const std::string& text : {std::string(),
                                  std::string(" "),
                                  std::string("{"),
                                  std::string("}"),
                                  std::string("{]"),
                                  std::string("[1,]"),
                                  std::string("{\"a\":1,}"),
                                  std::string("{a:1}"),
                                  std::string("{'a':1}"),
                                  std::string("{\"a\" 1}"),
                                  std::string("{\"a\":}"),
                                  std::string("{1:1}"),
                                  std::string("[1 2]"),
                                  std::string("[01]"),
                                  std::string("[+1]"),
                                  std::string("[.5]"),
                                  std::string("[1.]"),
                                  std::string("[1e]"),
                                  std::string("[0x1]"),
                                  std::string("[NaN]"),
                                  std::string("[Infinity]"),
                                  std::string("[nul]"),
                                  std::string("[True]"),
                                  std::string("[\"a]"),
                                  std::string("[\"\\x\"]"),
                                  std::string("[\"\\ud800\"]"),
                                  std::string("[\"\n\"]"),
                                  std::string("[\"\xff\"]"),
                                  std::string("[\"\xc0\x80\"]"),
                                  std::string("[\"\xed\xa0\x80\"]"),
                                  std::string("[1] [2]"),
                                  std::string("[1]x"),
                                  std::string("// a\n[1]"),
                                  std::string("[1 /* a */]"),
                                  std::string("[\0]", 3),
                                  std::string("[1]\0", 4),
                                  std::string("[1]\0x", 5),
                                  std::string("[\"\0\"]", 5),
                                  std::string("\xff\xfe[\0]\0", 6)})
    EXPECT_THAT(refused(text), HasSubstr("is not JSON")) << text;
  EXPECT_EQ(refused("{\n  \"a\": 1,\n  b: 2\n}"),
            "config.json: is not JSON at line 3, column 3; correct it or copy it again");
}

TEST(Json, RefusesAKeyThatIsThereTwice) {
  EXPECT_EQ(refused(R"({"a": 1, "b": 2, "a": 1})"), "config.json: has the key a twice; do not trust this file");
  EXPECT_EQ(refused(R"({"a": 1, "\u0061": 2})"), "config.json: has the key a twice; do not trust this file");
  EXPECT_EQ(refused(R"({"x": [{"y": {"": 1, "": 2}}]})"),
            "config.json: x: y: has the key  twice; do not trust this file");
  EXPECT_EQ(parse(R"([{"a": 1}, {"a": 2}])").items().size(), 2u);
  EXPECT_EQ(parse(R"({"a": {"a": {"a": 1}}})")["a"]["a"]["a"].whole(), 1);
}

TEST(Json, RefusesWhatIsBeyondTheLimits) {
  EXPECT_THAT(refused(repeated("[", 33)), HasSubstr("is nested more than 32 deep"));
  EXPECT_EQ(parse(repeated("[", 32) + repeated("]", 32)).kind(), Json::Kind::list);
  EXPECT_THAT(refused("[0" + repeated(",0", 200'000) + "]"), HasSubstr("has more than 200000 values"));
  EXPECT_THAT(refused("{\"" + std::string(1025, 'k') + "\": 1}"), HasSubstr("has a key of 1025 bytes"));
  EXPECT_THAT(refused("\"" + std::string(5 << 20, 'x') + "\""), HasSubstr("bytes, more than the 4194304"));
  const std::string longest = "\"" + std::string((4 << 20) - 2, 'x') + "\"";
  for (const std::string& text :
       {repeated("[", 4 << 20), repeated("{\"a\":", 800'000), "[0" + repeated(",0", 2'000'000),
        "[" + repeated("[],", 1'000'000), std::string(4 << 20, ' '), longest,
        "[" + std::string((4 << 20) - 2, '1') + "]", "[1" + repeated("0", 4'000'000)})
    expect_modest(uint64_t{64} << 20, [&] {
      try {
        parse(text);
      } catch (const InputError&) {
      }
    });
}

TEST(Json, ReadsAFile) {
  const testing::TemporaryFolder folder;
  testing::write_bytes(folder / "x.json", "{\"a\": [1, 2]}\n");
  EXPECT_THAT(read_json(folder / "x.json")["a"].wholes(), ElementsAre(1, 2));
  EXPECT_EQ(
      refusal([&] { read_json(folder / "x.json", {.bytes = 5}); }),
      (folder / "x.json").string() + ": has 14 bytes, more than the 5 that such a file can have; is it the right one?");
  EXPECT_THAT(refusal([&] { read_json(folder / "y.json"); }), HasSubstr("y.json: no such file"));
}

TEST(JsonMembers, AreGivenInTheirOrder) {
  std::vector<std::string> seen;
  for_each_json_member(R"({"b": {"x": [1]}, "a": 2})", "header", {}, [&](const std::string& key, const Json& value) {
    seen.push_back(key);
    EXPECT_EQ(value.name(), "header: " + key);
    if (key == "b") {
      EXPECT_THAT(value["x"].wholes(), ElementsAre(1));
    }
  });
  EXPECT_THAT(seen, ElementsAre("b", "a"));
}

TEST(JsonMembers, OfWhatIsNoObjectAreRefused) {
  for (const char* text : {"1", "null", "[]", "[{\"a\": 1}]", "", "{\"a\": 1, \"a\": 1}", "{\"a\": 1} {}"})
    EXPECT_NE(refusal([&] { for_each_json_member(text, "header", {}, [](const auto&, const auto&) {}); }), "") << text;
}

TEST(JsonMembers, TheLimitOfValuesIsThatOfEach) {
  const JsonLimits limits{.values = 3};
  int count = 0;
  const auto take = [&](const std::string&, const Json&) { ++count; };
  for_each_json_member(R"({"a": [1, 2], "b": [1, 2], "c": [1, 2]})", "header", limits, take);
  EXPECT_EQ(count, 3);
  EXPECT_THAT(refusal([&] { for_each_json_member(R"({"a": [1, 2, 3]})", "header", limits, take); }),
              HasSubstr("header: has more than 3 values"));
}

TEST(JsonText, EveryKindOfMember) {
  OrderedJson object;
  object["name"] = "a\"b\\\n\xC3\xA9\xFF";
  object["n"] = 3;
  object["x"] = 0.1;
  object["nan"] = std::nan("");
  object["ok"] = true;
  object["indices"] = std::vector<int64_t>{3, 17};
  EXPECT_EQ(
      json_text(object),
      "{\"name\":\"a\\\"b\\\\\\n\xC3\xA9\xEF\xBF\xBD\",\"n\":3,\"x\":0.1,\"nan\":null,\"ok\":true,\"indices\":[3,17]}");
}

TEST(JsonText, IsReadBack) {
  const std::string name = "a\"b\\\n\t\x01\x7f\xC3\xA9\xF0\x9F\x98\x80";
  OrderedJson object;
  object[name] = to_json(FieldValue(name));
  object["x"] = to_json(FieldValue(0.1));
  object["least"] = 5e-324;
  object["n"] = to_json(FieldValue(INT64_MIN));
  object["none"] = to_json(FieldValue());
  const Json read = parse(json_text(object));
  EXPECT_EQ(read[name].text(), name);
  EXPECT_EQ(read["x"].number(), 0.1);
  EXPECT_EQ(read["least"].number(), 5e-324);
  EXPECT_EQ(read["n"].whole(), INT64_MIN);
  EXPECT_FALSE(read.find("none"));
}

TEST(IsUtf8, KnowsWhatIsNot) {
  EXPECT_TRUE(is_utf8("") && is_utf8("a\xC3\xA9\xF0\x9F\x98\x80"));
  for (const char* text : {"\xff", "a\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80"})
    EXPECT_FALSE(is_utf8(text));
}

}  // namespace
}  // namespace igpt::formats
