#include "igpt/runs/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"

namespace igpt::runs {
namespace {

constexpr uint64_t kLargestFile = uint64_t{256} << 20;

std::vector<std::string_view> cells_of(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  std::vector<std::string_view> cells;
  for (size_t begin = 0, comma = 0; comma != line.npos; begin = comma + 1) {
    comma = line.find(',', begin);
    cells.push_back(line.substr(begin, comma == line.npos ? line.npos : comma - begin));
  }
  return cells;
}

template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

struct Columns {
  size_t count = 0, step = 0, train_loss = 0, val_loss = 0, val_acc = 0;  // those that are missing: count
};

Columns columns_of(std::string_view header, const std::filesystem::path& path) {
  const auto names = cells_of(header);
  const auto place = [&](std::string_view name) {
    return static_cast<size_t>(std::ranges::find(names, name) - names.begin());
  };
  const Columns columns{names.size(), place("step"), place("train_loss"), place("val_loss"), place("val_acc")};
  if (columns.step == columns.count)
    throw InputError(path.string() + ": its first line names no column `step`; give a run's folder or its metrics.csv");
  return columns;
}

// False where a cell is neither empty nor a number.
bool read_cell(const std::vector<std::string_view>& cells, size_t column, std::optional<double>& into) {
  if (column >= cells.size() || cells[column].empty()) return true;
  const auto value = number_of<double>(cells[column]);
  if (value && std::isfinite(*value)) into = value;
  return value.has_value();
}

// Nothing where the line is not a row of these columns.
std::optional<MetricsRow> row_of(std::string_view line, const Columns& columns) {
  const auto cells = cells_of(line);
  if (cells.size() != columns.count) return {};
  const auto step = number_of<int64_t>(cells[columns.step]);
  if (!step || *step < 0) return {};
  MetricsRow row{.step = *step};
  const bool is_whole = read_cell(cells, columns.train_loss, row.train_loss) &&
                        read_cell(cells, columns.val_loss, row.val_loss) &&
                        read_cell(cells, columns.val_acc, row.val_acc);
  return is_whole ? std::optional(row) : std::nullopt;
}

}  // namespace

std::vector<MetricsRow> read_metrics(const std::filesystem::path& path, Damaged damaged) {
  const std::string text = formats::read_file(path, kLargestFile);
  std::string_view rest = text;
  bool is_cut = false;  // the line that was read last does not end
  const auto next_line = [&] {
    const size_t end = rest.find('\n');
    const auto line = rest.substr(0, end);
    is_cut = end == rest.npos;
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    return line;
  };
  const auto header = next_line();
  const Columns columns = columns_of(is_cut ? std::string_view() : header, path);
  std::vector<MetricsRow> rows;
  for (int64_t number = 2; !rest.empty(); ++number) {
    const auto line = next_line();
    if (line.empty() || line == "\r") continue;
    const auto row = is_cut ? std::nullopt : row_of(line, columns);
    if (row)
      rows.push_back(*row);
    else if (damaged == Damaged::refuse && is_cut)
      throw InputError(path.string() + ": line " + std::to_string(number) +
                       " is cut short: the file is being written, or was damaged; try again, or remove the line");
    else if (damaged == Damaged::refuse)
      throw InputError(path.string() + ": line " + std::to_string(number) + " is damaged: it is no row of " +
                       std::to_string(columns.count) + " values, numbers among them; remove or repair the line");
  }
  return rows;
}

const MetricsRow* best_row(const std::vector<MetricsRow>& rows, bool by_accuracy) {
  const MetricsRow* best = nullptr;
  for (const MetricsRow& row : rows) {
    if (!(by_accuracy ? row.val_acc : row.val_loss)) continue;
    const bool is_better = !best || (by_accuracy ? *row.val_acc > *best->val_acc : *row.val_loss < *best->val_loss);
    if (is_better) best = &row;
  }
  return best;
}

}  // namespace igpt::runs
