#include "igpt/cli/manual.h"

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>
#include <utility>

#include "igpt/cli/program.h"
#include "igpt/error.h"

namespace igpt::cli {
namespace {

// What may stand for a value: "grey|kmeans|FILE|CKPT".
struct Value {
  std::string words;  // separated by spaces
  bool files = false, checkpoints = false, folders = false;

  bool is_free() const { return words.empty() && !files && !checkpoints && !folders; }
  bool only_words() const { return !files && !checkpoints && !folders; }
};

// In a placeholder, what is to be typed as it stands has no capital letters.
Value values_for(const std::string& placeholder) {
  Value value;
  std::istringstream parts(placeholder);
  for (std::string part; std::getline(parts, part, '|');) {
    if (std::none_of(part.begin(), part.end(), [](unsigned char c) { return std::isupper(c); }))
      value.words += (value.words.empty() ? "" : " ") + part;
    else if (part.starts_with("FILE") || part.starts_with("OUT"))
      value.files = true;
    else if (part.starts_with("CKPT"))
      value.checkpoints = true;
    else if (part.starts_with("DIR") || part.starts_with("RUN"))
      value.folders = true;
  }
  return value;
}

// What an argument of the command may be.
Value values_for(const std::vector<Declaration::Argument>& arguments) {
  std::string placeholder;
  for (const auto& argument : arguments) placeholder += (placeholder.empty() ? "" : "|") + argument.name;
  return values_for(placeholder);
}

std::string replaced(std::string_view text, std::string_view characters, std::string_view before) {
  std::string result;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) result += before;
    result += c;
  }
  return result;
}

// `pattern` with each @ as `name`.
std::string with_name(std::string_view pattern, const std::string& name) {
  std::string text;
  for (const char c : pattern) c == '@' ? text += name : text += c;
  return text;
}

std::string word_of(const Declaration& command) {  // "train" of "run train"
  return command.command.substr(command.command.find(' ') + 1);
}

std::string in_capitals(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

std::string in_single_quotes(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) c == '\'' ? quoted += R"('\'')" : quoted += c;
  return quoted + "'";
}

class Bash {
 public:
  static std::string of(const std::string& program, const std::vector<Declaration>& commands, bool has_subcommands) {
    std::string text = with_name(kBeginning, program);
    if (has_subcommands) {
      std::string words;
      for (const auto& command : commands) words += (words.empty() ? "" : " ") + word_of(command);
      text += "  for ((i = 1; i < COMP_CWORD; i++)); do\n    case ${COMP_WORDS[i]} in " + replaced(words, " ", " |") +
              ") command=${COMP_WORDS[i]}; break ;; esac\n  done\n";
      text += "  case $command in\n";
      for (const auto& command : commands) text += "  " + word_of(command) + ")\n" + of(command) + "    ;;\n";
      text += "  *) _igpt_offer \"$word\" '' '" + words + " --help --version' ;;\n  esac\n";
    } else {
      text += of(commands.front());
    }
    return text + with_name(kEnd, program);
  }

 private:
  static constexpr const char* kBeginning = R"(# Completion of @ in bash.

# Completes the word $1: with files (FILE), checkpoints (CKPT) or folders (DIR) as $2 says, or with the words $3. Where
# nothing is added, readline completes files, which copes with every quote.
_igpt_offer() {
  case $2$3 in FILE) return ;; '') compopt +o default; return ;; esac
  if [[ $2 && $1 == *[\"\'\\]* ]]; then return; fi
  mapfile -t COMPREPLY < <(
    compgen -W "$3" -- "$1"
    case $2 in
      *FILE*) compgen -f -- "$1" ;;
      *CKPT*) compgen -f -X '!*.ckpt' -- "$1"; compgen -f -X '!*.safetensors' -- "$1"; compgen -d -- "$1" ;;
      *DIR*) compgen -d -- "$1" ;;
    esac)
  if [[ $2 ]]; then compopt -o filenames; else compopt +o default; fi
}

_igpt_@() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= i
  COMPREPLY=()
  # `--option=value` comes as three words.
  if [[ $word == = ]]; then
    word=
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD-2]}
  fi
)";
  static constexpr const char* kEnd = R"(}
complete -o default -F _igpt_@ @
)";

  static std::string offer(const Value& value) {
    std::string kinds;
    for (const auto& [given, kind] :
         {std::pair(value.files, "FILE"), {value.checkpoints, "CKPT"}, {value.folders, "DIR"}})
      if (given) kinds += kind;
    return "_igpt_offer \"$word\" '" + kinds + "' '" + value.words + "'";
  }

  static std::string of(const Declaration& command) {
    std::vector<std::pair<std::string, std::string>> cases;  // what to offer, after which options
    std::string all;
    for (const auto& option : command.options) {
      const std::string name = "--" + option.name, letter = option.short_name.empty() ? "" : "-" + option.short_name;
      all += (all.empty() ? "" : " ") + name;
      if (option.placeholder.empty()) continue;
      const std::string action = offer(values_for(option.placeholder));
      auto same = std::find_if(cases.begin(), cases.end(), [&](const auto& c) { return c.first == action; });
      if (same == cases.end()) same = cases.insert(cases.end(), {action, ""});
      same->second += (same->second.empty() ? "" : " | ") + name + (letter.empty() ? "" : " | " + letter);
    }
    std::string text;
    for (const auto& [action, names] : cases) text += "    " + names + ") " + action + "; return ;;\n";
    if (!text.empty()) text = "    case $previous in\n" + text + "    esac\n";
    const std::string options = "_igpt_offer \"$word\" '' '" + all + "'";
    if (command.arguments.empty()) return text + "    " + options + "\n";
    return text + "    if [[ $word == -* ]]; then\n      " + options + "\n    else\n      " +
           offer(values_for(command.arguments)) + "\n    fi\n";
  }
};

class Zsh {
 public:
  static std::string of(const std::string& program, const std::vector<Declaration>& commands, bool has_subcommands) {
    std::string text = with_name("#compdef @\n# Completion of @ in zsh.\n\n_@() {\n", program);
    if (has_subcommands) {
      text +=
          "  local curcontext=$curcontext state line\n"
          "  _arguments -C '(- *)'{-h,--help}'[this text]' '(- *)--version[versions of igpt, LibTorch and CUDA]' "
          "'1: :->command' '*:: :->arguments'\n  case $state in\n  command)\n    local -a commands=(\n";
      for (const auto& command : commands)
        text += "      " + in_single_quotes(word_of(command) + ":" + replaced(command.summary, ":\\", "\\")) + "\n";
      text += "    )\n    _describe command commands ;;\n  arguments)\n    case $words[1] in\n";
      for (const auto& command : commands) text += "    " + word_of(command) + ")\n" + of(command) + "      ;;\n";
      text += "    esac ;;\n  esac\n";
    } else {
      text += of(commands.front());
    }
    return text + with_name("}\n\nif [ \"$funcstack[1]\" = _@ ]; then _@; else compdef _@ @; fi\n", program);
  }

 private:
  static std::string action(const Value& value) {
    const std::string checkpoints = "_files -g \"*.(ckpt|safetensors)\"", folders = "_files -/";
    if (value.is_free()) return " ";
    if (value.only_words()) return "(" + value.words + ")";
    const std::string files = value.files ? "_files" : value.checkpoints ? checkpoints : folders;
    if (value.words.empty()) return files;
    return "{_alternative \"words\\:word\\:(" + value.words + ")\" \"files\\:file\\:" + replaced(files, "\"", "\\") +
           "\"}";
  }

  static std::string of(const Declaration& command) {
    std::string text = "      _arguments -s";
    for (const auto& option : command.options) {
      const bool is_flag = option.placeholder.empty(), ends = option.heading == "Help";
      const std::string name = "--" + option.name + (is_flag ? "" : "="), letter = "-" + option.short_name;
      std::string rest = "[" + replaced(option.help, "[]\\", "\\") + "]";
      if (!is_flag)
        rest += ":" + replaced(option.placeholder, ":", "\\") + ":" + action(values_for(option.placeholder));
      text += " \\\n        ";
      if (option.short_name.empty())
        text += in_single_quotes((ends ? "(- *)" : "") + name + rest);
      else
        text += in_single_quotes(ends ? "(- *)" : "(" + letter + " --" + option.name + ")") + "{" + letter +
                (is_flag ? "," : "+,") + name + "}" + in_single_quotes(rest);
    }
    for (const auto& argument : command.arguments)
      text += " \\\n        " + in_single_quotes(std::string(argument.name.ends_with("...") ? "*" : "") + ":" +
                                                 argument.name + ":" + action(values_for(argument.name)));
    return text + "\n";
  }
};

class Fish {
 public:
  static std::string of(const std::string& program, const std::vector<Declaration>& commands, bool has_subcommands) {
    std::string text = with_name("# Completion of @ in fish.\n\ncomplete -c @ -f\n", program);
    if (has_subcommands)
      text += with_name("complete -c @ -n __fish_use_subcommand -s h -l help -d 'this text'\n", program) +
              with_name("complete -c @ -n __fish_use_subcommand -l version -d 'versions of igpt, LibTorch and CUDA'\n",
                        program);
    for (const auto& command : commands) {
      std::string start = "complete -c " + program;
      if (has_subcommands) {
        text += start + " -n __fish_use_subcommand -a " + word_of(command) + " -d " + quoted(command.summary) + "\n";
        start += " -n '__fish_seen_subcommand_from " + word_of(command) + "'";
      }
      for (const auto& option : command.options)
        text += start + (option.short_name.empty() ? "" : " -s " + option.short_name) + " -l " + option.name +
                (option.placeholder.empty() ? "" : " -r" + action(values_for(option.placeholder))) + " -d " +
                quoted(option.help) + "\n";
      if (!command.arguments.empty()) text += start + action(values_for(command.arguments)) + "\n";
    }
    return text;
  }

 private:
  static std::string quoted(std::string_view text) { return "'" + replaced(text, "'\\", "\\") + "'"; }

  static std::string action(const Value& value) {
    std::string offered = value.words;
    const auto offer = [&](const char* what) { offered += (offered.empty() ? "" : " ") + std::string(what); };
    if (value.checkpoints && !value.files) offer("(__fish_complete_suffix .ckpt)");  // all files, these first
    if (value.folders && !value.checkpoints) offer("(__fish_complete_directories)");
    return std::string(value.files ? " -F" : " -f") + (value.checkpoints && !value.files ? " -k" : "") +
           (offered.empty() ? "" : " -a " + quoted(offered));
  }
};

class Man {
 public:
  static std::string of(const std::string& program, const std::vector<Declaration>& commands, bool has_subcommands) {
    const std::string versions = version_text();
    std::vector<std::string> names;
    for (const auto& command : commands) names.push_back(word_of(command));
    std::string text =
        ".TH " + in_capitals(program) + " 1 \"\" \"" + versions.substr(0, versions.find('\n')) +
        "\" \"Image GPT\"\n.SH NAME\n" + program + " \\- " +
        escaped(has_subcommands ? "Image GPT: " + in_words(names, "and")
                                : commands.front().summary.substr(0, commands.front().summary.find('.'))) +
        "\n.SH SYNOPSIS\n.B " + program + "\n";
    if (has_subcommands) {
      text += ".I COMMAND\n[options]\n.SH COMMANDS\n";
      for (const auto& command : commands) text += item(bold(word_of(command)), command.summary);
      for (const auto& command : commands)
        text += ".SH " + in_capitals(command.command) + "\n.B " + command.command + "\n" + arguments(command) +
                ".PP\n" + escaped(command.summary) + "\n" + options(command) + example(command, ".SS Example\n");
    } else {
      const Declaration& command = commands.front();
      text += arguments(command) + ".SH DESCRIPTION\n" + escaped(command.summary) + "\n.SH OPTIONS\n" +
              options(command) + example(command, ".SH EXAMPLE\n");
    }
    return text + kEnd + ".SH SEE ALSO\n" + see_also(program);
  }

 private:
  static constexpr const char* kEnd = R"(.SH EXIT STATUS
0: done. 1: failed. 2: wrong usage. 128 + N: ended by signal N.
Results go to standard output, progress and notes to standard error, and each error is one line.
)";

  // Text of any kind as a line of its own: no character has a meaning to roff.
  static std::string escaped(std::string_view text) {
    std::string result = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
    for (const char c : text) {
      if (c == '\\')
        result += "\\e";
      else if (c == '-')
        result += "\\-";
      else
        result += c;
    }
    return result;
  }
  static std::string bold(std::string_view text) { return "\\fB" + escaped(text) + "\\fR"; }
  static std::string italic(std::string_view text) { return "\\fI" + escaped(text) + "\\fR"; }
  static std::string item(const std::string& left, std::string_view text) {
    return ".TP\n" + left + "\n" + escaped(text) + "\n";
  }

  static std::string arguments(const Declaration& command) {
    std::string text;
    for (const auto& argument : command.arguments) text += ".I " + escaped(argument.name) + "\n";
    return text + "[options]\n";
  }

  static std::string options(const Declaration& command) {
    std::string text, heading;
    if (!command.arguments.empty()) text += ".SS Arguments\n";
    for (const auto& argument : command.arguments) text += item(italic(argument.name), argument.help);
    for (const auto& option : command.options) {
      if (option.heading != heading) text += ".SS " + (heading = option.heading) + "\n";
      const std::string letter = option.short_name.empty() ? "" : bold("-" + option.short_name) + ", ";
      std::string value;  // choices are typed as they stand, other parts replaced
      std::istringstream parts(option.placeholder);
      for (std::string part; std::getline(parts, part, '|');)
        value += (value.empty() ? " " : "|") + (values_for(part).words.empty() ? italic(part) : bold(part));
      text += item(letter + bold("--" + option.name) + value, option.help);
    }
    return text;
  }

  static std::string example(const Declaration& command, const char* heading) {
    return heading + std::string(".nf\n") + escaped(command.example) + "\n.fi\n";
  }

  static std::string see_also(const std::string& program) {
    std::string text;
    for (const std::string other : {"prepare_data", "run", "sample", "gif"})
      if (other != program) text += (text.empty() ? "" : ",\n") + std::string(".BR ") + other + " (1)";
    return text + "\n";
  }
};

}  // namespace

std::string generated_text(const std::string& kind, const std::string& program,
                           const std::vector<Declaration>& commands) {
  const bool has_subcommands = commands.front().command != program;
  if (kind == "bash") return Bash::of(program, commands, has_subcommands);
  if (kind == "zsh") return Zsh::of(program, commands, has_subcommands);
  if (kind == "fish") return Fish::of(program, commands, has_subcommands);
  if (kind == "man") return Man::of(program, commands, has_subcommands);
  throw UsageError("--generate " + kind + ": must be bash, zsh, fish or man");
}

bool asks_to_generate(const std::vector<std::string>& arguments) {
  return arguments.size() == 2 && arguments[0] == "--generate";
}

}  // namespace igpt::cli
