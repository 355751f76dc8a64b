#pragma once

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
Allowed<double> greater_than(double bound);             ///< finite and > bound
Allowed<double> within(double minimum, double maximum);  ///< finite and in [minimum, maximum]
Allowed<std::string> one_of(std::vector<std::string> choices);

/// The options of one command. Each is declared once, bound to the field that holds its value and its default; parsing,
/// help, configuration files and the echo into hparams.yaml follow from the declaration.
///
/// Field types: bool (a flag), int64_t, double, std::string, std::optional<int64_t|double> (no default), and
/// std::vector<int64_t> (comma separated).
class Options {
 public:
  /// `command` as typed ("run train"), one sentence on what it does, and a complete example command for the end of help.
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

  /// The next argument without a name, required: ("CKPT", "the checkpoint").
  void positional(std::string name, std::string& field, std::string help);

  /// Reads `arguments` (without the program's name) into the fields. Returns false when the user asked for --help or
  /// --version, whose text has then gone to stdout. Throws UsageError that names the option, the value and what is
  /// allowed; a misspelt option is answered with the nearest one.
  bool parse(const std::vector<std::string>& arguments);

  /// Sets one option from text, checked as on the command line; `origin` ("config.yaml") starts the message of a
  /// UsageError.
  void set(const std::string& name, const std::string& text, const std::string& origin);

  /// Sets what a YAML file says (keys are option names), except what the command line gave. Throws UsageError or
  /// InputError that names the file.
  void load_yaml(const std::string& path);

  /// Whether the command line (or `set`, or a file) gave this option.
  bool given(const std::string& name) const;

  /// Every option with its present value as `set` would read it back, in the order of declaration; an optional
  /// without a value is left out.
  std::vector<std::pair<std::string, std::string>> values() const;

  std::string help() const;
};

}  // namespace igpt::cli
