#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/fields.h"

namespace igpt::cli {

template <class T>
T element_of(const T&);
template <class T>
T element_of(const std::optional<T>&);
template <class T>
T element_of(const std::vector<T>&);

/// The type that a field's range speaks of: of std::optional and std::vector the type inside.
template <class T>
using ElementOf = decltype(element_of(std::declval<T>()));

/// What a command declares, as its help, its manual and the completion of its command line show it (manual.h).
struct Declaration {
  struct Argument {
    std::string name, help;
  };
  struct Option {
    std::string short_name, name, heading, help;
    std::string placeholder;  ///< of its value; empty for a flag
  };

  std::string command, summary, example;
  std::vector<Argument> arguments;
  std::vector<Option> options;  ///< by heading; the last are --help and --version
};

/// The options of one command. Each is declared once, bound to the field that holds its value and its default; parsing,
/// help and configuration files follow from the declaration. The fields must outlive the object.
///
/// cxxopts splits the command line. This class adds exact numbers, ranges in words, suggestions for misspelt options,
/// checked positional arguments and errors of one line.
class Options {
 public:
  /// `command` as typed ("run train"), one sentence on what it does, and a complete example command for the end of
  /// help.
  Options(std::string command, std::string summary, std::string example);

  /// The heading under which help lists the options that are added from here on without a group of their own.
  void group(std::string heading);

  /// Adds one option. `names` is "steps" or "n,name" (a short form first). T is one of the types of igpt/fields.h, or a
  /// vector: of numbers, which are separated by commas and of which each must be allowed, or of texts. To a vector the
  /// option adds each time it is given. A bool takes no value on the command line.
  template <class T>
  void add(const std::string& names, T& field, std::string help, Allowed<ElementOf<T>> allowed = {},
           const Attributes& attributes = {});

  /// Adds every option that for_each_field (igpt/fields.h) declares.
  template <class Fields>
  void add_fields(Fields& fields) {
    for_each_field(fields, [this](const std::string& name, auto& field, const char* help, const Attributes& attributes,
                                  const auto&... allowed) { add(name, field, help, {allowed...}, attributes); });
  }

  using Translate = std::function<std::string(const std::string&)>;

  /// Another spelling, accepted but not listed: `name` TEXT does what `target` translate(TEXT) does. `translate` may
  /// throw UsageError. `translate_plain` is the meaning of an unquoted single value in a YAML file, where it differs.
  void alias(std::string name, std::string target, Translate translate, Translate translate_plain = {});

  /// The next argument without a name, required: ("CKPT", "the checkpoint").
  void positional(std::string name, std::string& field, std::string help);

  /// All further arguments without a name, at least one: ("RUN", "the folder of a run").
  void positionals(std::string name, std::vector<std::string>& field, std::string help);

  /// Reads `arguments` (without the program's name) into the fields; of an option given twice the last counts, unless
  /// its field is a vector. A text must not be empty, which is what a shell makes of a variable without a value.
  /// Returns false when the user asked for --help or --version, whose text has then gone to stdout. `--generate KIND`,
  /// which help does not list, prints what generated_text() (manual.h) makes of a program without subcommands. Throws
  /// UsageError that names the option, the value and what is allowed; a misspelt option is answered with the nearest
  /// one.
  bool parse(const std::vector<std::string>& arguments);

  /// Sets one option from text, checked as on the command line; `origin` ("config.yaml") starts the message of a
  /// UsageError.
  void set(const std::string& name, const std::string& text, const std::string& origin);

  /// The same, unless the option was given before.
  void fill(const std::string& name, const std::string& text, const std::string& origin);

  /// Sets the options that a YAML file gives (option names with scalars, or with a list of whole numbers), except those
  /// of the command line. Values are read as PyYAML reads them (YAML 1.1): a flag may be True, yes or on, a number
  /// 10_000, an option that is null or empty is not given. In addition 1e-3 is a number and 1e4 a whole one. Throws
  /// InputError for a file that is missing, longer than 64 KB or not YAML, UsageError for an unknown key or value; both
  /// name the file.
  void load_yaml(const std::string& path);

  /// Throws UsageError "--name is required; <advice>" unless the option was given.
  void require(const std::string& name, const std::string& advice) const;

  /// Whether the command line (or `set`, or a file) gave this option; of an alias, whether it was given by that name.
  bool given(const std::string& name) const;

  /// The attributes of an option (of an alias those of its target); null where no option has this name.
  const Attributes* attributes(const std::string& name) const;

  /// Every option with its present value as `set` would read it back, in the order of declaration; an optional
  /// without a value is left out.
  std::vector<std::pair<std::string, std::string>> values() const;

  /// The values of all settings of a run, as a YAML file that load_yaml reads. An optional without a value, and an
  /// option of `open`, is a comment with what help says in place of the value; a text that is empty is left out.
  std::string yaml(const std::vector<std::string>& open = {}) const;

  std::string help() const;
  Declaration declaration() const;
  const std::string& command() const { return command_; }
  const std::string& summary() const { return summary_; }

  /// Whether `argument` ("--steps", "-n") is an option here whose value is the next argument.
  bool takes_next(const std::string& argument) const;

 private:
  struct Option {
    std::string short_name, name, heading, help;
    enum class Takes : uint8_t { nothing, text, numbers } takes = Takes::text;
    std::string placeholder = {};  // what help shows for the value
    Attributes attributes = {};
    // Throws UsageError without the option's name. `again`: the option was given before.
    std::function<void(const std::string&, bool again)> assign = {};
    std::function<std::optional<std::string>()> present = {};  // the field as text
    std::string target = {};                                   // of an alias
    Translate translate = {}, translate_plain = {};
    bool given = false;

    bool is_flag() const { return takes == Takes::nothing; }
  };
  struct Positional {
    std::string name, help;
    std::string* field = nullptr;
    std::vector<std::string>* fields = nullptr;  // of the last: all that follow
  };

  const Option* find(const std::string& name) const;    // "steps"
  const Option* named(const std::string& typed) const;  // "--steps", "-n"
  const Option& at(const std::string& name) const;
  Option& known(const std::string& name, const std::string& origin);
  Option& target_of(Option& option);  // of an alias the option that it sets
  void assign(Option& option, const std::string& label, const std::string& text, const Translate& meaning);
  std::vector<std::string> separate_values(const std::vector<std::string>& arguments) const;
  void assign_positionals(const std::vector<std::string>& arguments);
  [[noreturn]] void refuse_unknown(const std::string& label, const std::string& name, const char* dashes) const;
  std::string usage() const;

  std::string command_, summary_, example_, heading_ = "Options";
  std::vector<Option> options_;
  std::vector<Positional> positionals_;
};

/// A file to write whose name says of which format it is, in small or capital letters. A name without an ending will do
/// (/dev/stdout).
Allowed<std::string> file_ending_in(const std::vector<std::string>& endings);

/// The command that `arguments` name ("train" in `--steps 5 train`), taken out of them; options may stand before it.
/// Returns nullptr when the user asked for --help, --version or --generate KIND of the program as a whole, whose text
/// has then gone to stdout. Throws UsageError when there is no command or an unknown one.
Options* choose_command(const std::string& program, std::vector<std::string>& arguments,
                        const std::vector<std::pair<std::string, Options*>>& commands);

}  // namespace igpt::cli
