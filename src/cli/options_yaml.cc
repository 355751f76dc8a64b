#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <span>
#include <sstream>

#include "igpt/cli/options.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/input_file.h"

namespace igpt::cli {
namespace {

constexpr size_t max_bytes = 64 << 10;  // yaml-cpp's scanner takes some hundred times as much memory

struct Entry {
  std::string name, text;
  enum class Style { null, plain, quoted, list } style;  // how the value is written
};

// Takes a flat mapping from the parser's events. It builds no tree, and the first anchor, alias or nested value ends
// the reading, so that none of them can take time or memory.
class FlatMapping : public YAML::EventHandler {
 public:
  std::vector<Entry> entries;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "an alias is not supported here"); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override {
    refuse(mark, "an anchor is not supported here");
  }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    expect(mark, State::start, kValues);
    state_ = State::key;
  }
  void OnMapEnd() override { state_ = State::end; }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    expect(mark, State::value, state_ == State::start ? kLines : kValues);
    list_.clear();
    state_ = State::list;
  }
  void OnSequenceEnd() override { take_value(list_, Entry::Style::list); }

  // The parser gives an unquoted scalar the tag "?".
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    if (state_ == State::list) {
      list_ += (list_.empty() ? "" : ",") + value;
    } else if (state_ == State::key) {
      key_ = value;
      state_ = State::value;
    } else {
      expect(mark, State::value, kLines);
      take_value(value, tag == "?" ? Entry::Style::plain : Entry::Style::quoted);
    }
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (state_ == State::start) return;  // an empty file
    expect(mark, State::value, state_ == State::key ? "an option's name is missing" : kValues);
    take_value("", Entry::Style::null);
  }

 private:
  enum class State { start, key, value, list, end };
  static constexpr const char *kValues = "a value must be a single one or a list of whole numbers",
                              *kLines = "must be lines such as `steps: 1000`";

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& what) {
    throw UsageError("line " + std::to_string(mark.line + 1) + ": " + what);
  }
  void expect(const YAML::Mark& mark, State state, const char* otherwise) const {
    if (state_ != state) refuse(mark, otherwise);
  }
  void take_value(std::string value, Entry::Style style) {
    entries.push_back({std::move(key_), std::move(value), style});
    state_ = State::key;
  }

  State state_ = State::start;
  std::string key_, list_;
};

std::string content_of(const std::string& path) {
  formats::InputFile file(path);
  if (file.size() > max_bytes) throw InputError(path + ": is longer than 64 KB; is it a configuration file?");
  std::string content(file.size(), '\0');
  content.resize(file.read(std::as_writable_bytes(std::span(content))));
  return content;
}

// A boolean of YAML 1.1 as PyYAML knows them, which, unlike yaml-cpp, leaves out y and n.
std::string flag_text(const std::string& text) {
  bool value = false;
  const bool is_boolean = text.size() > 1 && YAML::convert<bool>::decode(YAML::Node(text), value);
  return !is_boolean ? text : value ? "true" : "false";
}

// A decimal number of YAML 1.1 without its underscores, its plus, and an exponent that leaves it whole. Anything else
// stays as it is.
std::string number_text(const std::string& text) {
  const bool is_number = !text.empty() && text.front() != '_' && text.front() != 'e' && text.front() != 'E' &&
                         text.find_first_not_of("0123456789+-._eE") == std::string::npos;
  if (!is_number) return text;
  std::string number = text;
  std::erase(number, '_');
  if (number.front() == '+' && number.size() > 1 && number[1] != '-') number.erase(0, 1);
  const size_t digits = number.find_first_not_of('-');
  if (digits < number.size() - 1 && number[digits] == '0' &&
      number.find_first_not_of("0123456789", digits) == std::string::npos)
    throw UsageError("must be written without a zero in front, which makes it octal for some");
  if (number.find_first_of(".eE") == std::string::npos) return number;
  constexpr double kExact = 9007199254740992;  // 2^53
  double real = 0;
  const char* end = number.data() + number.size();
  const auto parsed = std::from_chars(number.data(), end, real);
  const bool is_whole =
      parsed.ec == std::errc() && parsed.ptr == end && std::abs(real) < kExact && std::trunc(real) == real;
  return is_whole ? std::to_string(static_cast<int64_t>(real)) : number;
}

// An entry with numbers as `set` takes it.
std::string numbers_text(const std::string& text) {
  std::string numbers;
  for (size_t begin = 0, comma; begin <= text.size(); begin = comma + 1) {
    comma = std::min(text.find(',', begin), text.size());
    numbers += (begin > 0 ? "," : "") + number_text(text.substr(begin, comma - begin));
  }
  return numbers;
}

}  // namespace

void Options::load_yaml(const std::string& path) {
  std::istringstream content(content_of(path));
  FlatMapping mapping;
  try {
    YAML::Parser parser(content);
    parser.HandleNextDocument(mapping);
  } catch (const UsageError& error) {
    throw UsageError(path + ": " + error.what());
  } catch (const YAML::Exception& error) {
    throw InputError(path + ": line " + std::to_string(error.mark.line + 1) +
                     ": is not YAML: " + formats::printable(error.msg));
  }
  std::map<const Option*, std::string> names;  // by which the file sets an option
  for (const Entry& entry : mapping.entries) {
    Option& option = known(entry.name, path);
    Option& target = target_of(option);
    const auto [other, is_first] = names.emplace(&target, entry.name);
    if (!is_first)
      throw UsageError(
          path + ": " + entry.name +
          (other->second == entry.name ? " is given twice" : " is the same as " + other->second + "; keep one"));
    if (entry.style == Entry::Style::null) continue;
    if (target.given) {  // by the command line
      option.given = true;
      continue;
    }
    assign(option, path + ": " + entry.name, entry.text, [&](const std::string& text) {
      if (entry.style == Entry::Style::plain && option.translate_plain) return option.translate_plain(text);
      const std::string value = target.is_flag()                         ? flag_text(text)
                                : target.takes == Option::Takes::numbers ? numbers_text(text)
                                                                         : text;
      return option.translate ? option.translate(value) : value;
    });
  }
}

std::string Options::yaml(const std::vector<std::string>& open) const {
  std::string text;
  for (const Option& option : options_) {
    if (!option.target.empty() || !option.attributes.of_run) continue;
    const auto value = std::ranges::find(open, option.name) == open.end() ? option.present() : std::nullopt;
    if (!value && option.attributes.shown_default)
      text += "# " + option.name + ": " + option.attributes.shown_default + "\n";
    if (!value || value->empty()) continue;
    YAML::Emitter line;
    line << YAML::BeginMap << YAML::Key << option.name << YAML::Value << *value << YAML::EndMap;
    text += std::string(line.c_str()) + "\n";
  }
  return text;
}

}  // namespace igpt::cli
