#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace igpt::cli {

/// What values an option allows: in words for help and errors, and as a test.
template <class T>
struct Allowed {
  std::string words;  ///< "at least 1", "cosine, linear or constant"
  std::function<bool(const T&)> test;
};

Allowed<int64_t> at_least(int64_t minimum);
Allowed<int64_t> between(int64_t minimum, int64_t maximum);
Allowed<double> greater_than(double bound);
Allowed<double> within(double minimum, double maximum);   ///< in [minimum, maximum]
Allowed<double> half_open(double minimum, double bound);  ///< in [minimum, bound)
Allowed<double> not_negative();
Allowed<std::string> one_of(std::vector<std::string> choices);

/// The options of one command. Each is declared once, bound to the field that holds its value and its default; parsing,
/// help, configuration files and the echo into hparams.yaml follow from the declaration. The fields must outlive it.
///
/// Field types: bool (a flag), int64_t, double (always finite), std::string, std::optional<int64_t|double> (no
/// default), and std::vector<int64_t> (comma separated).
class Options {
 public:
  /// `command` as typed ("run train"), one sentence on what it does, and a complete example command for the end of
  /// help.
  Options(std::string command, std::string summary, std::string example);

  /// The heading under which help lists the options declared from here on.
  void group(std::string heading);

  /// `names` is "steps" or "n,name" (a short form first). A field of type bool takes no value on the command line.
  void add(const std::string& names, bool& field, std::string help);
  void add(const std::string& names, int64_t& field, std::string help, Allowed<int64_t> allowed = {});
  void add(const std::string& names, double& field, std::string help, Allowed<double> allowed = {});
  void add(const std::string& names, std::string& field, std::string help, Allowed<std::string> allowed = {});
  void add(const std::string& names, std::optional<int64_t>& field, std::string help, Allowed<int64_t> allowed = {});
  void add(const std::string& names, std::optional<double>& field, std::string help, Allowed<double> allowed = {});
  void add(const std::string& names, std::vector<int64_t>& field, std::string help, Allowed<int64_t> each = {});

  using Translate = std::function<std::string(const std::string&)>;

  /// Another spelling, accepted but not listed: `name` TEXT does what `target` translate(TEXT) does. `translate` may
  /// throw UsageError. `translate_plain` is what an unquoted single value of a YAML file means instead, where it means
  /// something else there.
  void alias(std::string name, std::string target, Translate translate, Translate translate_plain = {});

  /// The next argument without a name, required: ("CKPT", "the checkpoint").
  void positional(std::string name, std::string& field, std::string help);

  /// Reads `arguments` (without the program's name) into the fields; of an option given twice the last counts. Returns
  /// false when the user asked for --help or --version, whose text has then gone to stdout. Throws UsageError that
  /// names the option, the value and what is allowed; a misspelt option is answered with the nearest one.
  bool parse(const std::vector<std::string>& arguments);

  /// Sets one option from text, checked as on the command line; `origin` ("config.yaml") starts the message of a
  /// UsageError.
  void set(const std::string& name, const std::string& text, const std::string& origin);

  /// The same, unless the option was given before.
  void fill(const std::string& name, const std::string& text, const std::string& origin);

  /// Sets what a YAML file says (option names to scalars, or to a list of whole numbers), except what the command line
  /// gave. Values are read as PyYAML reads them (YAML 1.1): a flag may be True, yes or on, a number 10_000, an option
  /// that is null or empty is not given; beyond it, 1e-3 is a number and 1e4 a whole one. Throws InputError for a file
  /// that is missing, longer than 64 KB or not YAML, UsageError for an unknown key or value; both name the file.
  void load_yaml(const std::string& path);

  /// Throws UsageError "--name is required; <advice>" unless the option was given.
  void require(const std::string& name, const std::string& advice) const;

  /// Whether the command line (or `set`, or a file) gave this option; of an alias, whether it was given by that name.
  bool given(const std::string& name) const;

  /// Every option with its present value as `set` would read it back, in the order of declaration; an optional
  /// without a value is left out.
  std::vector<std::pair<std::string, std::string>> values() const;

  std::string help() const;
  const std::string& command() const { return command_; }
  const std::string& summary() const { return summary_; }

  /// Whether `argument` ("--steps", "-n") is an option here whose value is the next argument.
  bool takes_next(const std::string& argument) const;

 private:
  struct Option {
    std::string short_name, name, heading, help, allowed;
    std::string placeholder;                              // what help shows for the value; empty: a flag
    std::string default_text;                             // as declared
    std::function<void(const std::string&)> assign;       // throws UsageError without the option's name
    std::function<std::optional<std::string>()> present;  // the field as text
    std::string target;                                   // of an alias
    Translate translate, translate_plain;
    enum class Origin { declared, file, command_line } origin = Origin::declared;
  };
  struct Positional {
    std::string name, help;
    std::string* field;
  };

  void declare(const std::string& names, std::string placeholder, std::string help, std::string allowed,
               std::function<void(const std::string&)> assign, std::function<std::optional<std::string>()> present);
  Option* find(const std::string& name);    // "steps"
  Option* named(const std::string& typed);  // "--steps", "-n"
  const Option* named(const std::string& typed) const;
  const Option& at(const std::string& name) const;
  Option& target_of(Option& option);  // of an alias the option that it sets
  void assign(Option& option, const std::string& text, Option::Origin origin);
  void change(const std::string& name, const std::string& text, const std::string& origin,
              const std::function<void(Option&)>& assign);
  void parse_long(const std::vector<std::string>& arguments, size_t& i);
  void parse_short(const std::vector<std::string>& arguments, size_t& i);
  const std::string& next_value(const std::vector<std::string>& arguments, size_t& i) const;
  void assign_typed(Option& option, const std::string& typed, const std::string& value);
  void assign_positionals(const std::vector<std::string>& arguments);
  [[noreturn]] void refuse_unknown(const std::string& typed) const;
  std::string nearest(const std::string& name) const;
  std::string usage() const;

  std::string command_, summary_, example_, heading_ = "Options";
  std::vector<Option> options_;
  std::vector<Positional> positionals_;
};

/// The command that `arguments` name ("train" in `--steps 5 train`), taken out of them; options may stand before it.
/// Returns nullptr when the user asked for --help or --version of the program as a whole, whose text has then gone to
/// stdout. Throws UsageError when there is no command or an unknown one.
Options* choose_command(const std::string& program, std::vector<std::string>& arguments,
                        const std::vector<std::pair<std::string, Options*>>& commands);

}  // namespace igpt::cli
