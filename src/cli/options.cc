#include "igpt/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <sstream>

#include "igpt/cli/program.h"
#include "igpt/error.h"

namespace igpt::cli {
namespace {

template <class T>
std::string text_of(T number) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), number).ptr};
}

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

int64_t whole_number(const std::string& text) {
  return number_of<int64_t>(text, "a whole number");
}
double real_number(const std::string& text) {
  return number_of<double>(text, "a number");
}

bool truth(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  throw UsageError("must be true or false");
}

template <class T>
T checked(T value, const Allowed<T>& allowed) {
  if (allowed.test && !allowed.test(value)) throw UsageError("must be " + allowed.words);
  return value;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text + separator);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

// As an error repeats it: an empty value must be seen, and one that is very long or of several lines must not bury the
// message.
std::string shown(const std::string& value) {
  constexpr size_t longest = 80;
  if (value.empty()) return "\"\"";
  return single_line(value.size() <= longest ? value : value.substr(0, longest) + "...");
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

Allowed<int64_t> at_least(int64_t minimum) {
  return {"at least " + text_of(minimum), [=](int64_t value) { return value >= minimum; }};
}

Allowed<int64_t> between(int64_t minimum, int64_t maximum) {
  return {text_of(minimum) + " to " + text_of(maximum),
          [=](int64_t value) { return minimum <= value && value <= maximum; }};
}

Allowed<double> greater_than(double bound) {
  return {"greater than " + text_of(bound), [=](double value) { return value > bound; }};
}

Allowed<double> within(double minimum, double maximum) {
  return {text_of(minimum) + " to " + text_of(maximum),
          [=](double value) { return minimum <= value && value <= maximum; }};
}
Allowed<double> half_open(double minimum, double bound) {
  return {"at least " + text_of(minimum) + " and less than " + text_of(bound),
          [=](double value) { return minimum <= value && value < bound; }};
}
Allowed<double> not_negative() {
  return {"at least 0", [](double value) { return value >= 0; }};
}

Allowed<std::string> one_of(std::vector<std::string> choices) {
  std::string words = choices.front();
  for (size_t i = 1; i < choices.size(); ++i) words += (i + 1 == choices.size() ? " or " : ", ") + choices[i];
  return {words, [choices = std::move(choices)](const std::string& value) {
            return std::find(choices.begin(), choices.end(), value) != choices.end();
          }};
}

Options::Options(std::string command, std::string summary, std::string example)
    : command_(std::move(command)), summary_(std::move(summary)), example_(std::move(example)) {}

void Options::group(std::string heading) {
  heading_ = std::move(heading);
}

void Options::declare(const std::string& names, std::string placeholder, std::string help, std::string allowed,
                      std::function<void(const std::string&)> assign,
                      std::function<std::optional<std::string>()> present) {
  Option option;
  const size_t comma = names.find(',');
  if (comma != std::string::npos) option.short_name = names.substr(0, comma);
  option.name = comma == std::string::npos ? names : names.substr(comma + 1);
  option.heading = heading_;
  option.help = std::move(help);
  option.allowed = std::move(allowed);
  option.placeholder = std::move(placeholder);
  option.default_text = option.placeholder.empty() ? "" : present().value_or("");
  option.assign = std::move(assign);
  option.present = std::move(present);
  options_.push_back(std::move(option));
}

void Options::add(const std::string& names, bool& field, std::string help) {
  declare(
      names, "", std::move(help), "", [&field](const std::string& text) { field = truth(text); },
      [&field] { return std::string(field ? "true" : "false"); });
}

void Options::add(const std::string& names, int64_t& field, std::string help, Allowed<int64_t> allowed) {
  declare(
      names, "N", std::move(help), allowed.words,
      [&field, allowed](const std::string& text) { field = checked(whole_number(text), allowed); },
      [&field] { return text_of(field); });
}

void Options::add(const std::string& names, double& field, std::string help, Allowed<double> allowed) {
  declare(
      names, "X", std::move(help), allowed.words,
      [&field, allowed](const std::string& text) { field = checked(real_number(text), allowed); },
      [&field] { return text_of(field); });
}

void Options::add(const std::string& names, std::string& field, std::string help, Allowed<std::string> allowed) {
  declare(
      names, "TEXT", std::move(help), allowed.words,
      [&field, allowed](const std::string& text) { field = checked(text, allowed); }, [&field] { return field; });
}

void Options::add(const std::string& names, std::optional<int64_t>& field, std::string help, Allowed<int64_t> allowed) {
  declare(
      names, "N", std::move(help), allowed.words,
      [&field, allowed](const std::string& text) { field = checked(whole_number(text), allowed); },
      [&field] { return field ? std::optional(text_of(*field)) : std::nullopt; });
}

void Options::add(const std::string& names, std::optional<double>& field, std::string help, Allowed<double> allowed) {
  declare(
      names, "X", std::move(help), allowed.words,
      [&field, allowed](const std::string& text) { field = checked(real_number(text), allowed); },
      [&field] { return field ? std::optional(text_of(*field)) : std::nullopt; });
}

void Options::add(const std::string& names, std::vector<int64_t>& field, std::string help, Allowed<int64_t> each) {
  const auto assign = [&field, each](const std::string& text) {
    std::vector<int64_t> numbers;
    if (!text.empty())
      for (const std::string& part : split(text, ',')) {
        try {
          numbers.push_back(checked(whole_number(part), each));
        } catch (const UsageError& error) {
          throw UsageError("each number, separated by commas, " + std::string(error.what()));
        }
      }
    field = std::move(numbers);
  };
  const auto present = [&field] {
    std::vector<std::string> parts;
    for (const int64_t number : field) parts.push_back(text_of(number));
    return parts.empty() ? std::nullopt : std::optional(join(parts, ","));
  };
  declare(names, "N,N,...", std::move(help), each.words, assign, present);
}

void Options::alias(std::string name, std::string target, Translate translate, Translate translate_plain) {
  at(target);
  Option option;
  option.name = std::move(name);
  option.placeholder = "TEXT";
  option.target = std::move(target);
  option.translate = std::move(translate);
  option.translate_plain = std::move(translate_plain);
  options_.push_back(std::move(option));
}

void Options::positional(std::string name, std::string& field, std::string help) {
  positionals_.push_back({std::move(name), std::move(help), &field});
}

Options::Option* Options::find(const std::string& name) {
  for (Option& option : options_)
    if (option.name == name) return &option;
  return nullptr;
}

const Options::Option& Options::at(const std::string& name) const {
  for (const Option& option : options_)
    if (option.name == name) return option;
  throw std::logic_error("no option --" + name + " is declared");
}

const Options::Option* Options::named(const std::string& typed) const {
  for (const Option& option : options_)
    if (typed == "--" + option.name || (!option.short_name.empty() && typed == "-" + option.short_name)) return &option;
  return nullptr;
}

Options::Option* Options::named(const std::string& typed) {
  return const_cast<Option*>(std::as_const(*this).named(typed));
}

bool Options::takes_next(const std::string& argument) const {
  const Option* option = named(argument);
  return option && !option->placeholder.empty();
}

Options::Option& Options::target_of(Option& option) {
  Option* const target = option.target.empty() ? &option : find(option.target);
  if (!target) throw Error("--" + option.name + ": stands for --" + option.target + ", which is not declared");
  return *target;
}

// Throws UsageError that says what the value must be, without the option's name.
void Options::assign(Option& option, const std::string& text, Option::Origin origin) {
  if (option.target.empty()) {
    option.assign(text);
    option.origin = origin;
  } else {
    assign(target_of(option), option.translate(text), origin);
    option.origin = origin;
  }
}

std::string Options::usage() const {
  std::string text = "usage: " + command_;
  for (const Positional& positional : positionals_) text += " " + positional.name;
  return text + " [options]";
}

std::string Options::nearest(const std::string& name) const {
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const Option& option : options_) {
    if (!option.target.empty()) continue;
    const bool begun = name.size() >= 3 && option.name.starts_with(name);
    const size_t d = begun ? 1 : distance(name, option.name);
    if (d < best_distance) best = option.name, best_distance = d;
  }
  return best;
}

void Options::refuse_unknown(const std::string& typed) const {
  const size_t start = typed.find_first_not_of('-');
  const std::string candidate = start == std::string::npos ? "" : nearest(typed.substr(start, 80));
  throw UsageError(shown(typed) + ": unknown option" +
                   (candidate.empty() ? "" : "; did you mean --" + candidate + "?"));
}

void Options::assign_positionals(const std::vector<std::string>& arguments) {
  if (arguments.size() > positionals_.size())
    throw UsageError(shown(arguments[positionals_.size()]) + ": unexpected argument; " + usage());
  for (size_t i = 0; i < positionals_.size(); ++i) {
    if (i >= arguments.size())
      throw UsageError(positionals_[i].name + " is required (" + positionals_[i].help + "); " + usage());
    if (arguments[i].empty()) throw UsageError(positionals_[i].name + " is empty; give " + positionals_[i].help);
    *positionals_[i].field = arguments[i];
  }
}

// The value of the option that arguments[i] names: the next argument, which must not be an option itself. A negative
// number is a value.
const std::string& Options::next_value(const std::vector<std::string>& arguments, size_t& i) const {
  const std::string name = arguments[i];
  if (++i == arguments.size() || arguments[i].starts_with("--") || (arguments[i].size() == 2 && named(arguments[i])))
    throw UsageError(name + ": needs a value");
  return arguments[i];
}

bool Options::parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> unnamed;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      unnamed.insert(unnamed.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (argument == "-h" || argument == "--help") return std::fputs(help().c_str(), stdout), false;
    if (argument == "--version") return std::fputs(version_text().c_str(), stdout), false;
    if (argument.size() < 2 || argument[0] != '-')
      unnamed.push_back(argument);
    else if (argument[1] == '-')
      parse_long(arguments, i);
    else
      parse_short(arguments, i);
  }
  assign_positionals(unnamed);
  return true;
}

// "--steps 5", "--steps=5", "--quiet".
void Options::parse_long(const std::vector<std::string>& arguments, size_t& i) {
  const std::string& argument = arguments[i];
  const size_t equals = argument.find('=');
  const std::string typed = argument.substr(0, equals);
  Option* option = named(typed);
  if (!option) refuse_unknown(typed);
  if (equals != std::string::npos)
    assign_typed(*option, typed, argument.substr(equals + 1));
  else
    assign_typed(*option, typed, option->placeholder.empty() ? "true" : next_value(arguments, i));
}

// "-q", "-qv", "-n fashion", "-nfashion".
void Options::parse_short(const std::vector<std::string>& arguments, size_t& i) {
  const std::string argument = arguments[i];
  for (size_t j = 1; j < argument.size(); ++j) {
    const std::string typed{'-', argument[j]};
    Option* option = named(typed);
    if (!option) refuse_unknown(j == 1 ? argument : typed);
    if (option->placeholder.empty()) {
      assign_typed(*option, typed, "true");
      continue;
    }
    const bool is_last = j + 1 == argument.size();
    return assign_typed(*option, typed, is_last ? next_value(arguments, i) : argument.substr(j + 1));
  }
}

void Options::assign_typed(Option& option, const std::string& typed, const std::string& value) {
  try {
    assign(option, value, Option::Origin::command_line);
  } catch (const UsageError& error) {
    throw UsageError(typed + " " + shown(value) + ": " + error.what());
  }
}

void Options::set(const std::string& name, const std::string& text, const std::string& origin) {
  change(name, text, origin, [&](Option& option) { assign(option, text, Option::Origin::file); });
}

// Finds the option that `origin` names and gives it to `assign`, whose UsageError gets the names that it lacks.
void Options::change(const std::string& name, const std::string& text, const std::string& origin,
                     const std::function<void(Option&)>& assign) {
  Option* option = find(name);
  if (!option) {
    const std::string candidate = nearest(name.substr(0, 80));
    throw UsageError(origin + ": " + shown(name) + ": unknown option" +
                     (candidate.empty() ? "" : "; did you mean " + candidate + "?"));
  }
  try {
    assign(*option);
  } catch (const UsageError& error) {
    throw UsageError(origin + ": " + name + " " + shown(text) + ": " + error.what());
  }
}

void Options::fill(const std::string& name, const std::string& text, const std::string& origin) {
  Option* option = find(name);
  if (!option || target_of(*option).origin == Option::Origin::declared) set(name, text, origin);
}

void Options::require(const std::string& name, const std::string& advice) const {
  if (!given(name)) throw UsageError("--" + name + " is required; " + advice);
}

bool Options::given(const std::string& name) const {
  return at(name).origin != Option::Origin::declared;
}

std::vector<std::pair<std::string, std::string>> Options::values() const {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Option& option : options_) {
    if (!option.target.empty()) continue;
    if (const auto text = option.present()) values.emplace_back(option.name, *text);
  }
  return values;
}

std::string Options::help() const {
  std::string text = usage() + "\n\n" + wrapped(summary_, 0);
  if (!positionals_.empty()) text += "\nArguments:\n";
  for (const Positional& positional : positionals_) text += help_line(positional.name, positional.help);
  std::vector<std::string> headings;
  for (const Option& option : options_)
    if (option.target.empty() && std::find(headings.begin(), headings.end(), option.heading) == headings.end())
      headings.push_back(option.heading);
  for (const std::string& heading : headings) {
    text += "\n" + heading + ":\n";
    for (const Option& option : options_) {
      if (!option.target.empty() || option.heading != heading) continue;
      std::string left = (option.short_name.empty() ? "    " : "-" + option.short_name + ", ") + "--" + option.name;
      if (!option.placeholder.empty()) left += " " + option.placeholder;
      text += help_line(left, option.help + (option.allowed.empty() ? "" : "; " + option.allowed) +
                                  (option.default_text.empty() ? "" : " (" + option.default_text + ")"));
    }
  }
  text += "\nHelp:\n" + help_line("-h, --help", "this text") +
          help_line("    --version", "versions of igpt, LibTorch and CUDA");
  return text + "\nExample:\n  " + example_ + "\n";
}

Options* choose_command(const std::string& program, std::vector<std::string>& arguments,
                        const std::vector<std::pair<std::string, Options*>>& commands) {
  const auto takes_next = [&](const std::string& argument) {
    return std::any_of(commands.begin(), commands.end(),
                       [&](const auto& command) { return command.second->takes_next(argument); });
  };
  std::vector<std::string> names;
  for (const auto& [name, options] : commands) names.push_back(name);
  const std::string words = one_of(names).words;

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
