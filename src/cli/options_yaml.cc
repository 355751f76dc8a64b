#include <sys/stat.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "igpt/cli/options.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"

namespace igpt::cli {
namespace {

constexpr size_t max_bytes = 64 << 10;  // the scanner takes some hundred times as much memory

struct Entry {
  std::string name, text;
  enum class Style { null, plain, quoted, list } style;  // how the value is written
};

// Takes a flat mapping from the parser's events. No tree is built, so that anchors, aliases and nesting cost nothing:
// the first of them ends the reading.
class FlatMapping : public YAML::EventHandler {
 public:
  std::vector<Entry> entries;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "an alias is not supported here"); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    if (state_ != State::start) refuse(mark, kValues);
    state_ = State::key;
  }
  void OnMapEnd() override { state_ = State::end; }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    if (state_ == State::start) refuse(mark, "must be lines such as `steps: 1000`");
    if (state_ != State::value) refuse(mark, kValues);
    list_.clear();
    state_ = State::list;
  }
  void OnSequenceEnd() override { take_value(list_, Entry::Style::list); }

  // The parser gives an unquoted scalar the tag "?".
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    switch (state_) {
      case State::key:
        key_ = value;
        state_ = State::value;
        break;
      case State::value:
        take_value(value, tag == "?" ? Entry::Style::plain : Entry::Style::quoted);
        break;
      case State::list:
        list_ += (list_.empty() ? "" : ",") + value;
        break;
      default:
        refuse(mark, "must be lines such as `steps: 1000`");
    }
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    if (state_ == State::start) return;  // an empty file
    if (state_ == State::key) refuse(mark, "an option's name is missing");
    if (state_ == State::list) refuse(mark, kValues);
    take_value("", Entry::Style::null);
  }

 private:
  enum class State { start, key, value, list, end };
  static constexpr const char* kValues = "a value must be a single one or a list of whole numbers";

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& what) {
    throw UsageError("line " + std::to_string(mark.line + 1) + ": " + what);
  }
  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) refuse(mark, "an anchor is not supported here");
  }
  void take_value(std::string value, Entry::Style style) {
    entries.push_back({std::move(key_), std::move(value), style});
    state_ = State::key;
  }

  State state_ = State::start;
  std::string key_, list_;
};

std::string content_of(const std::string& path) {
  // A named pipe or device could keep the reader waiting for ever.
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw InputError(path + ": cannot be read: " + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw InputError(path + ": is not a file");
  std::ifstream file(path, std::ios::binary);
  std::string content(max_bytes + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(file.gcount()));
  if (!file.eof() && content.size() <= max_bytes) throw InputError(path + ": cannot be read: " + std::strerror(errno));
  if (content.size() > max_bytes) throw InputError(path + ": is longer than 64 KB; is it a configuration file?");
  return content;
}

// A boolean of YAML 1.1 as PyYAML knows them, which leaves out y and n.
std::string flag_text(const std::string& text) {
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (text == word) return "true";
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (text == word) return "false";
  return text;
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
  constexpr double kExact = 9007199254740992;  // 2^53
  double real = 0;
  const char* end = number.data() + number.size();
  const auto parsed = std::from_chars(number.data(), end, real);
  const bool whole =
      parsed.ec == std::errc() && parsed.ptr == end && std::abs(real) < kExact && std::trunc(real) == real;
  const bool as_real = number.find_first_of(".eE") != std::string::npos;
  return whole && as_real ? std::to_string(static_cast<int64_t>(real)) : number;
}

// What an entry's text says to an option, as `set` takes it; `placeholder` is what help shows for the option's value.
std::string option_text(const std::string& placeholder, const std::string& text) {
  if (placeholder.empty()) return flag_text(text);
  if (placeholder == "TEXT") return text;
  std::string numbers;
  for (size_t begin = 0;;) {
    const size_t comma = text.find(',', begin);
    numbers += number_text(text.substr(begin, comma - begin));
    if (comma == std::string::npos) return numbers;
    numbers += ',';
    begin = comma + 1;
  }
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
    const std::string& name = entry.name;
    Option* named = find(name);
    if (named) {
      const auto [other, is_first] = names.emplace(&target_of(*named), name);
      if (!is_first)
        throw UsageError(
            path + ": " + formats::printable(name) +
            (other->second == name ? " is given twice" : " is the same as " + other->second + "; keep one"));
      if (entry.style == Entry::Style::null) continue;
      if (target_of(*named).given) {
        named->given = true;  // an alias is given even where it has no effect
        continue;
      }
    }
    change(name, entry.text, path, [&](Option& option) {
      if (entry.style == Entry::Style::plain && option.translate_plain) {
        assign(target_of(option), option.translate_plain(entry.text));
        option.given = true;
      } else {
        assign(option, option_text(target_of(option).placeholder, entry.text));
      }
    });
  }
}

}  // namespace igpt::cli
