#include "igpt/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <sstream>

#define CXXOPTS_NO_REGEX  // std::regex needs stack in proportion to the argument's length
#include <cxxopts.hpp>

#include "igpt/cli/manual.h"
#include "igpt/cli/program.h"
#include "igpt/error.h"
#include "igpt/formats/ending.h"

namespace igpt::cli {
namespace {

template <class T>
T number_of(const std::string& text, const char* kind) {
  T number{};
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ptr != end || parsed.ec == std::errc::invalid_argument) throw UsageError(std::string("must be ") + kind);
  if (parsed.ec == std::errc::result_out_of_range) throw UsageError("is out of range");
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(number)) throw UsageError(std::string("must be ") + kind);
  return number;
}

void read(const std::string& text, std::string& value) {
  value = text;
}
void read(const std::string& text, int64_t& value) {
  value = number_of<int64_t>(text, "a whole number");
}
void read(const std::string& text, double& value) {
  value = number_of<double>(text, "a number");
}
void read(const std::string& text, bool& value) {
  if (text != "true" && text != "false") throw UsageError("must be true or false");
  value = text == "true";
}

template <class T>
T allowed_value(const std::string& text, const Allowed<T>& allowed) {
  T value{};
  read(text, value);
  require_allowed(value, allowed);
  return value;
}

template <class T, class Element>
T field_value(const std::string& text, const Allowed<Element>& allowed) {
  if constexpr (std::is_same_v<T, std::vector<Element>>) {
    std::vector<Element> values;
    std::istringstream parts(text.empty() ? "" : text + ',');
    try {
      for (std::string part; std::getline(parts, part, ',');) values.push_back(allowed_value(part, allowed));
    } catch (const UsageError& error) {
      throw UsageError("each number, separated by commas, " + std::string(error.what()));
    }
    return values;
  } else {
    return allowed_value(text, allowed);
  }
}

template <class T>
std::optional<std::string> field_text(const T& field) {
  const FieldValue value = value_of(field);
  return value.index() == 0 ? std::nullopt : std::optional(to_text(value));
}
template <class T>
std::optional<std::string> field_text(const std::vector<T>& field) {
  std::string text;
  for (const T& value : field) text += (text.empty() ? "" : ",") + to_text(value);
  return text.empty() ? std::nullopt : std::optional(text);
}

template <class T>
std::string placeholder_of(const Allowed<ElementOf<T>>& allowed, const Attributes& attributes) {
  using Element = ElementOf<T>;
  if (attributes.placeholder) return attributes.placeholder;
  if constexpr (std::is_same_v<Element, std::string>) {
    std::string choices;
    for (const auto& choice : allowed.choices) choices += (choices.empty() ? "" : "|") + choice;
    return choices.empty() ? "TEXT" : choices;
  }
  if (std::is_same_v<T, std::vector<Element>>) return "N,N,...";
  return std::is_same_v<Element, int64_t> ? "N" : "X";
}

constexpr size_t longest_shown = 80;

// A value as an error repeats it: an empty one is made visible, a very long one is cut and one of several lines is put
// on one, so that it does not bury the message.
std::string shown(const std::string& value) {
  if (value.empty()) return "\"\"";
  return single_line(value.size() <= longest_shown ? value : value.substr(0, longest_shown) + "...");
}

// Levenshtein distance.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

// `text` in lines of at most 80 columns that begin at column `indent`; the first line is begun already.
std::string wrapped(const std::string& text, size_t indent) {
  constexpr size_t columns = 80;
  std::istringstream words(text);
  std::string lines;
  size_t column = indent;
  for (std::string word; words >> word;) {
    if (column > indent && column + 1 + word.size() > columns) {
      lines += "\n" + std::string(indent, ' ');
      column = indent;
    }
    if (column > indent) lines += ' ', ++column;
    lines += word;
    column += word.size();
  }
  return lines + "\n";
}

std::string help_line(const std::string& left, const std::string& text) {
  constexpr size_t indent = 28;
  std::string line = "  " + left;
  if (line.size() + 2 <= indent)
    line.append(indent - line.size(), ' ');
  else
    line += "\n" + std::string(indent, ' ');
  return line + wrapped(text, indent);
}

}  // namespace

Options::Options(std::string command, std::string summary, std::string example)
    : command_(std::move(command)), summary_(std::move(summary)), example_(std::move(example)) {}

void Options::group(std::string heading) {
  heading_ = std::move(heading);
}

template <class T>
void Options::add(const std::string& names, T& field, std::string help, Allowed<ElementOf<T>> allowed,
                  const Attributes& attributes) {
  Option option;
  const size_t comma = names.find(',');
  option.short_name = comma == std::string::npos ? attributes.short_name : names.substr(0, comma);
  option.name = comma == std::string::npos ? names : names.substr(comma + 1);
  option.heading = attributes.group ? attributes.group : heading_;
  using Takes = Option::Takes;
  option.takes = std::is_same_v<T, bool>                     ? Takes::nothing
                 : std::is_same_v<ElementOf<T>, std::string> ? Takes::text
                                                             : Takes::numbers;
  option.placeholder = placeholder_of<T>(allowed, attributes);
  option.attributes = attributes;
  const bool is_told = allowed.words.empty() || !allowed.choices.empty();  // the placeholder lists them
  option.help = std::move(help) + (is_told ? "" : "; " + allowed.words);
  const std::string shown = attributes.shown_default ? attributes.shown_default : field_text(field).value_or("");
  if (!option.is_flag() && !shown.empty()) option.help += " (" + shown + ")";
  option.assign = [&field, allowed = std::move(allowed)](const std::string& text, bool again) {
    if constexpr (std::is_same_v<T, std::vector<std::string>>) {
      field.push_back(allowed_value(text, allowed));
    } else if constexpr (std::is_same_v<T, std::vector<ElementOf<T>>>) {
      const T values = field_value<T>(text, allowed);
      if (!again) field.clear();
      field.insert(field.end(), values.begin(), values.end());
    } else {
      field = field_value<T>(text, allowed);
    }
  };
  option.present = [&field] { return field_text(field); };
  options_.push_back(std::move(option));
}

// NOLINTBEGIN(bugprone-macro-parentheses): T is a type.
#define IGPT_ADD(T) \
  template void Options::add(const std::string&, T&, std::string, Allowed<ElementOf<T>>, const Attributes&)
// NOLINTEND(bugprone-macro-parentheses)
IGPT_ADD(bool);
IGPT_ADD(int64_t);
IGPT_ADD(double);
IGPT_ADD(std::string);
IGPT_ADD(std::optional<int64_t>);
IGPT_ADD(std::optional<double>);
IGPT_ADD(std::vector<int64_t>);
IGPT_ADD(std::vector<std::string>);
#undef IGPT_ADD

void Options::alias(std::string name, std::string target, Translate translate, Translate translate_plain) {
  at(target);
  Option option;
  option.name = std::move(name);
  option.target = std::move(target);
  option.translate = std::move(translate);
  option.translate_plain = std::move(translate_plain);
  options_.push_back(std::move(option));
}

void Options::positional(std::string name, std::string& field, std::string help) {
  positionals_.push_back({std::move(name), std::move(help), &field});
}

void Options::positionals(std::string name, std::vector<std::string>& field, std::string help) {
  positionals_.push_back({std::move(name), std::move(help), nullptr, &field});
}

const Options::Option* Options::find(const std::string& name) const {
  const auto option = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.name == name; });
  return option == options_.end() ? nullptr : &*option;
}

const Options::Option& Options::at(const std::string& name) const {
  if (const Option* option = find(name)) return *option;
  throw std::logic_error("no option --" + name + " is declared");
}

const Options::Option* Options::named(const std::string& typed) const {
  for (const Option& option : options_)
    if (typed == "--" + option.name || (!option.short_name.empty() && typed == "-" + option.short_name)) return &option;
  return nullptr;
}

bool Options::takes_next(const std::string& argument) const {
  const Option* option = named(argument);
  return option && !option->is_flag();
}

Options::Option& Options::target_of(Option& option) {
  return option.target.empty() ? option : const_cast<Option&>(at(option.target));
}

// Sets the option to what `text` means. `label` starts the message of a UsageError.
void Options::assign(Option& option, const std::string& label, const std::string& text, const Translate& meaning) try {
  Option& target = target_of(option);
  target.assign(meaning ? meaning(text) : text, target.given);
  target.given = option.given = true;
} catch (const UsageError& error) {
  throw UsageError(label + " " + shown(text) + ": " + error.what());
}

std::string Options::usage() const {
  std::string text = "usage: " + command_;
  for (const Positional& positional : positionals_)
    text += " " + positional.name + (positional.fields ? " [" + positional.name + " ...]" : "");
  return text + " [options]";
}

void Options::refuse_unknown(const std::string& label, const std::string& name, const char* dashes) const {
  std::string nearest;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (const Option& option : options_) {
    if (!option.target.empty()) continue;
    const bool begun = name.size() >= 3 && option.name.starts_with(name);
    const size_t d = begun ? 1 : distance(name, option.name);
    if (d < least) nearest = option.name, least = d;
  }
  throw UsageError(label + ": unknown option" + (nearest.empty() ? "" : "; did you mean " + (dashes + nearest) + "?"));
}

Options::Option& Options::known(const std::string& name, const std::string& origin) {
  const Option* option = find(name);
  if (!option) refuse_unknown(origin + ": " + shown(name), name.substr(0, longest_shown), "");
  return const_cast<Option&>(*option);
}

void Options::assign_positionals(const std::vector<std::string>& arguments) {
  const bool takes_all = !positionals_.empty() && positionals_.back().fields;
  if (arguments.size() > positionals_.size() && !takes_all)
    throw UsageError(shown(arguments[positionals_.size()]) + ": unexpected argument; " + usage());
  for (size_t i = 0; i < std::max(positionals_.size(), arguments.size()); ++i) {
    const Positional& positional = positionals_[std::min(i, positionals_.size() - 1)];
    if (i >= arguments.size()) throw UsageError(positional.name + " is required (" + positional.help + "); " + usage());
    if (arguments[i].empty()) throw UsageError(positional.name + " is empty; give " + positional.help);
    if (positional.fields)
      positional.fields->push_back(arguments[i]);
    else
      *positional.field = arguments[i];
  }
}

// The arguments in a form that cxxopts splits as intended: it refuses -ofig.png and takes any argument for a value,
// even another option. A negative number is a value.
std::vector<std::string> Options::separate_values(const std::vector<std::string>& arguments) const {
  std::vector<std::string> separate;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string argument = arguments[i];
    const auto letter = [&] { return argument.substr(0, 2); };
    for (; argument.size() > 2 && named(letter()) && !takes_next(letter()); argument.erase(1, 1))  // -qv
      separate.push_back(letter());
    if (argument.size() > 2 && takes_next(letter())) {  // -nfashion
      separate.insert(separate.end(), {letter(), argument.substr(2)});
      continue;
    }
    separate.push_back(argument);
    if (!takes_next(argument)) continue;
    if (++i == arguments.size() || arguments[i].starts_with("--") || (arguments[i].size() == 2 && named(arguments[i])))
      throw UsageError(argument + ": needs a value");
    separate.push_back(arguments[i]);
  }
  return separate;
}

bool Options::parse(const std::vector<std::string>& arguments) {
  if (asks_to_generate(arguments) && command_.find(' ') == std::string::npos)
    return std::fputs(generated_text(arguments[1], command_, {declaration()}).c_str(), stdout), false;
  cxxopts::Options parser(command_);
  parser.allow_unrecognised_options();
  const auto flag = [] { return cxxopts::value<std::string>()->implicit_value("true"); };
  auto add_to_parser = parser.add_options();
  add_to_parser("h,help", "", flag())("version", "", flag());
  for (const Option& option : options_)
    add_to_parser((option.short_name.empty() ? "" : option.short_name + ",") + option.name, "",
                  option.is_flag() ? flag() : cxxopts::value<std::string>());
  const auto end_of_options = std::find(arguments.begin(), arguments.end(), "--");
  const auto separate = separate_values({arguments.begin(), end_of_options});
  std::vector<const char*> argv{command_.c_str()};
  for (const std::string& argument : separate) argv.push_back(argument.c_str());
  const auto parsed = [&] {
    try {
      return parser.parse(static_cast<int>(argv.size()), argv.data());
    } catch (const cxxopts::exceptions::exception& error) {  // "-hn", whose n takes a value
      throw UsageError(error.what());
    }
  }();

  if (parsed.count("help")) return std::fputs(help().c_str(), stdout), false;
  if (parsed.count("version")) return std::fputs(version_text().c_str(), stdout), false;
  std::vector<std::string> unnamed = parsed.unmatched();
  for (const std::string& argument : unnamed) {
    if (argument.size() < 2 || argument[0] != '-') continue;
    const std::string typed = argument.substr(0, argument.find('='));
    const size_t start = std::min(typed.find_first_not_of('-'), typed.size());
    refuse_unknown(shown(typed), typed.substr(start, longest_shown), "--");
  }
  for (const cxxopts::KeyValue& argument : parsed.arguments()) {
    Option& option = known(argument.key(), "");
    assign(option, "--" + option.name, argument.value(), option.translate);
    if (argument.value().empty() && option.takes == Option::Takes::text)  // and the option itself allows it
      throw UsageError("--" + option.name + " \"\": is empty; give a value, or leave the option out");
  }
  if (end_of_options != arguments.end()) unnamed.insert(unnamed.end(), end_of_options + 1, arguments.end());
  assign_positionals(unnamed);
  return true;
}

void Options::set(const std::string& name, const std::string& text, const std::string& origin) {
  Option& option = known(name, origin);
  assign(option, origin + ": " + name, text, option.translate);
}

void Options::fill(const std::string& name, const std::string& text, const std::string& origin) {
  if (!target_of(known(name, origin)).given) set(name, text, origin);
}

void Options::require(const std::string& name, const std::string& advice) const {
  if (!given(name)) throw UsageError("--" + name + " is required; " + advice);
}

bool Options::given(const std::string& name) const {
  return at(name).given;
}

const Attributes* Options::attributes(const std::string& name) const {
  const Option* option = find(name);
  if (option && !option->target.empty()) option = &at(option->target);
  return option ? &option->attributes : nullptr;
}

std::vector<std::pair<std::string, std::string>> Options::values() const {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Option& option : options_) {
    if (!option.target.empty()) continue;
    if (const auto text = option.present()) values.emplace_back(option.name, *text);
  }
  return values;
}

Declaration Options::declaration() const {
  Declaration declared{command_, summary_, example_, {}, {}};
  for (const Positional& positional : positionals_) declared.arguments.push_back({positional.name, positional.help});
  std::vector<std::string> headings;
  for (const Option& option : options_)
    if (option.target.empty() && std::find(headings.begin(), headings.end(), option.heading) == headings.end())
      headings.push_back(option.heading);
  for (const std::string& heading : headings)
    for (const Option& option : options_)
      if (option.target.empty() && option.heading == heading)
        declared.options.push_back(
            {option.short_name, option.name, option.heading, option.help, option.is_flag() ? "" : option.placeholder});
  declared.options.push_back({"h", "help", "Help", "this text", ""});
  declared.options.push_back({"", "version", "Help", "versions of igpt, LibTorch and CUDA", ""});
  return declared;
}

std::string Options::help() const {
  const Declaration declared = declaration();
  std::string text = usage() + "\n\n" + wrapped(summary_, 0);
  if (!declared.arguments.empty()) text += "\nArguments:\n";
  for (const auto& argument : declared.arguments) text += help_line(argument.name, argument.help);
  std::string heading;
  for (const auto& option : declared.options) {
    if (option.heading != heading) text += "\n" + (heading = option.heading) + ":\n";
    const std::string names =
        (option.short_name.empty() ? "    " : "-" + option.short_name + ", ") + "--" + option.name;
    text += help_line(names + (option.placeholder.empty() ? "" : " " + option.placeholder), option.help);
  }
  return text + "\nExample:\n  " + example_ + "\n";
}

Allowed<std::string> file_ending_in(const std::vector<std::string>& endings) {
  return {"a name that ends in " + in_words(endings), [endings](const std::string& file) {
            const std::string ending = formats::ending_of(file);
            return ending.empty() || std::ranges::find(endings, ending) != endings.end();
          }};
}

Options* choose_command(const std::string& program, std::vector<std::string>& arguments,
                        const std::vector<std::pair<std::string, Options*>>& commands) {
  const auto takes_next = [&](const std::string& argument) {
    return std::any_of(commands.begin(), commands.end(),
                       [&](const auto& command) { return command.second->takes_next(argument); });
  };
  std::vector<std::string> names;
  for (const auto& [name, options] : commands) names.push_back(name);
  const std::string words = in_words(names);

  if (asks_to_generate(arguments)) {
    std::vector<Declaration> declarations;
    for (const auto& [name, options] : commands) declarations.push_back(options->declaration());
    return std::fputs(generated_text(arguments[1], program, declarations).c_str(), stdout), nullptr;
  }
  bool help = false, version = false;
  for (auto it = arguments.begin(); it != arguments.end(); ++it) {
    if (it->size() > 1 && it->front() == '-') {
      help = help || *it == "-h" || *it == "--help";
      version = version || *it == "--version";
      if (takes_next(*it) && it + 1 != arguments.end()) ++it;
      continue;
    }
    for (const auto& [name, options] : commands)
      if (*it == name) return arguments.erase(it), options;
    throw UsageError(shown(*it) + ": unknown command; must be " + words);
  }
  if (version) return std::fputs(version_text().c_str(), stdout), nullptr;
  if (!help) throw UsageError("a command is required: " + words);
  std::string text = "usage: " + program + " COMMAND [options]\n\nCommands:\n";
  for (const auto& [name, options] : commands) text += help_line(name, options->summary());
  text += "\n`" + program + " COMMAND --help` lists the options of a command.\n";
  return std::fputs(text.c_str(), stdout), nullptr;
}

}  // namespace igpt::cli
