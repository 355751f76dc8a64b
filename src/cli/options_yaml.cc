#include <sys/stat.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "igpt/cli/options.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"

namespace igpt::cli {
namespace {

constexpr size_t max_bytes = 64 << 10;  // the scanner takes some hundred times as much memory

// Takes a flat mapping from the parser's events. No tree is built, so that anchors, aliases and nesting cost nothing:
// the first of them ends the reading.
class FlatMapping : public YAML::EventHandler {
 public:
  std::vector<std::pair<std::string, std::string>> entries;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "an alias is not supported here"); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    if (state_ != State::start) refuse(mark, "a value must be a single one or a list of whole numbers");
    state_ = State::key;
  }
  void OnMapEnd() override { state_ = State::end; }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    if (state_ == State::start) refuse(mark, "must be lines such as `steps: 1000`");
    if (state_ != State::value) refuse(mark, "a value must be a single one or a list of whole numbers");
    list_.clear();
    state_ = State::list;
  }
  void OnSequenceEnd() override { take_value(list_); }

  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, const std::string& value) override {
    refuse_anchor(mark, anchor);
    switch (state_) {
      case State::key:
        key_ = value;
        key_mark_ = mark;
        state_ = State::value;
        break;
      case State::value:
        take_value(value);
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
    refuse(state_ == State::value ? key_mark_ : mark,
           state_ == State::value ? formats::printable(key_) + " needs a value" : "an option's name is missing");
  }

 private:
  enum class State { start, key, value, list, end };

  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& what) {
    throw UsageError("line " + std::to_string(mark.line + 1) + ": " + what);
  }
  static void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) refuse(mark, "an anchor is not supported here");
  }
  void take_value(std::string value) {
    entries.emplace_back(std::move(key_), std::move(value));
    state_ = State::key;
  }

  State state_ = State::start;
  std::string key_, list_;
  YAML::Mark key_mark_;
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
  std::set<std::string> seen;
  for (const auto& [name, text] : mapping.entries) {
    if (!seen.insert(name).second) throw UsageError(path + ": " + formats::printable(name) + " is given twice");
    fill(name, text, path);
  }
}

}  // namespace igpt::cli
