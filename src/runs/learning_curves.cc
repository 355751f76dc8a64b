#include "igpt/runs/learning_curves.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "igpt/drawing/chart.h"
#include "igpt/error.h"
#include "igpt/fields.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/runs/metrics.h"
#include "igpt/runs/run_list.h"

namespace igpt::runs {
namespace {

using drawing::Curve;
using drawing::Panel;

constexpr size_t kMostRuns = 40;  // that a legend has room for

struct Losses {
  FoundRun run;
  std::vector<MetricsRow> rows;
  bool has_loss = false, has_accuracy = false;

  bool is_empty() const { return !has_loss && !has_accuracy; }
};

Losses read_losses(const std::string& name, const CurvesOptions& options) {
  Losses losses{.run = find_run(name, options.log_dir), .rows = {}};
  const auto& run = losses.run;
  losses.rows = read_metrics(run.metrics);
  for (const MetricsRow& row : losses.rows) {
    losses.has_loss |= row.train_loss || row.val_loss;
    losses.has_accuracy |= row.val_acc.has_value();
  }
  if (losses.is_empty()) return losses;
  if (options.metric == "acc" && !losses.has_accuracy)
    throw InputError(run.metrics.string() + ": has no val_acc, which classifiers have; leave --metric acc out");
  if (options.x == "images" && run.settings.batch_size < 1)
    throw InputError(
        run.metrics.string() +
        ": no hparams.yaml beside it names the batch size, so that images cannot be counted; use --x_axis step");
  return losses;
}

bool is_classifier(const Losses& losses) {
  return losses.run.settings.classify || losses.has_accuracy;
}

using Value = std::optional<double> MetricsRow::*;

// A value at the steps at which it was measured.
Curve curve_of(const Losses& losses, size_t entry, Value value, bool thick, const CurvesOptions& options) {
  Curve curve{.points = {}, .entry = entry, .thick = thick};
  const auto& settings = losses.run.settings;
  const double of_step =
      options.x == "images" ? static_cast<double>(settings.batch_size) * static_cast<double>(settings.accumulate) : 1;
  for (const MetricsRow& row : losses.rows)
    if (const auto& y = row.*value) curve.points.push_back({static_cast<double>(row.step) * of_step, *y});
  std::ranges::stable_sort(curve.points, {}, &drawing::Point::x);
  return curve;
}

Panel loss_panel(const std::vector<Losses>& runs, const CurvesOptions& options) {
  const auto classifiers = std::ranges::count_if(runs, is_classifier);
  Panel panel{.x_label = options.x, .y_label = "loss, nats"};
  if (classifiers == 0) panel.y_label += " per pixel";
  if (classifiers == std::ssize(runs)) panel.y_label += " per label";
  panel.log_y = options.log_y;
  panel.y_min = options.y_min;
  panel.y_max = options.y_max;
  for (size_t i = 0; i < runs.size(); ++i) {
    panel.curves.push_back(curve_of(runs[i], i, &MetricsRow::train_loss, /*thick=*/false, options));
    panel.curves.push_back(curve_of(runs[i], i, &MetricsRow::val_loss, /*thick=*/true, options));
  }
  return panel;
}

Panel accuracy_panel(const std::vector<Losses>& runs, const CurvesOptions& options) {
  Panel panel{.x_label = options.x, .y_label = "validation accuracy"};
  panel.rises = true;
  for (size_t i = 0; i < runs.size(); ++i)
    panel.curves.push_back(curve_of(runs[i], i, &MetricsRow::val_acc, /*thick=*/true, options));
  return panel;
}

// "fmnist_gen/version_0, best 0.6559"
std::string legend_of(const Losses& losses) {
  const MetricsRow* best = best_row(losses.rows, losses.has_accuracy);
  if (!best) return losses.run.label;
  char text[40];
  (void)std::snprintf(text, sizeof text, ", best val_%s %.4f", losses.has_accuracy ? "acc" : "loss",
                      losses.has_accuracy ? *best->val_acc : *best->val_loss);
  return losses.run.label + text;
}

bool is_there(const std::vector<Losses>& runs, const Losses& losses) {
  return std::ranges::any_of(runs, [&](const Losses& other) {
    std::error_code ignored;
    return std::filesystem::equivalent(other.run.metrics, losses.run.metrics, ignored);
  });
}

std::vector<Losses> read_runs(const CurvesOptions& options) {
  std::vector<Losses> runs;
  for (const std::string& name : options.runs)  // one that is named twice is drawn once
    if (Losses losses = read_losses(name, options); !is_there(runs, losses)) runs.push_back(std::move(losses));
  return runs;
}

void leave_out_empty(std::vector<Losses>& runs, const Hooks& hooks) {
  const std::string why = ": has no losses yet; a training adds the first one after --log_interval steps";
  if (std::ranges::all_of(runs, &Losses::is_empty)) throw InputError(runs.front().run.metrics.string() + why);
  for (const Losses& losses : runs)
    if (losses.is_empty() && hooks.note) hooks.note("leaving out " + losses.run.metrics.string() + why);
  std::erase_if(runs, [](const Losses& losses) { return losses.is_empty(); });
}

// Names that several runs have become their paths.
void tell_apart(std::vector<Losses>& runs) {
  std::vector<std::string> labels;
  for (const Losses& losses : runs) labels.push_back(losses.run.label);
  for (Losses& losses : runs)
    if (std::ranges::count(labels, losses.run.label) > 1) losses.run.label = losses.run.metrics.string();
}

void check(const CurvesOptions& options) {
  if (options.runs.size() > kMostRuns)
    throw UsageError(std::to_string(options.runs.size()) + " runs: a picture has room for at most " +
                     std::to_string(kMostRuns));
  if (options.y_min && options.y_max && *options.y_min >= *options.y_max)
    throw UsageError("--y_min " + to_text(*options.y_min) + ": must be less than --y_max " + to_text(*options.y_max));
  for (const auto& [name, limit] : {std::pair("--y_min ", options.y_min), {"--y_max ", options.y_max}})
    if (options.log_y && limit && *limit <= 0)
      throw UsageError(name + to_text(*limit) + ": must be greater than 0 with --log_y");
}

[[noreturn]] void refuse_range(const CurvesOptions& options) {
  const bool limited = options.y_min || options.y_max;
  if (!limited) throw UsageError("no loss lies above 0; leave --log_y out");
  throw UsageError(std::string("no loss lies ") + (options.log_y ? "above 0 and " : "") +
                   "in the range of --y_min and --y_max; leave them out" + (options.log_y ? ", or --log_y" : ""));
}

}  // namespace

std::vector<std::string> plot_runs(const CurvesOptions& options, const Hooks& hooks) {
  check(options);
  const auto format = drawing::format_of(options.output, "--output");
  auto runs = read_runs(options);
  leave_out_empty(runs, hooks);
  tell_apart(runs);
  for (const Losses& losses : runs) formats::expect_writable(options.output, {losses.run.metrics.string()});

  drawing::Chart chart{.width = options.width, .height = options.height};
  std::vector<std::string> names;
  for (const Losses& losses : runs) {
    names.push_back(losses.run.label);
    chart.legend.push_back(legend_of(losses));
  }
  const bool any_loss = std::ranges::any_of(runs, &Losses::has_loss);
  if (options.metric != "acc" && any_loss) {
    chart.panels.push_back(loss_panel(runs, options));
    chart.line_kinds = {"training", "validation"};
    if (!drawing::y_range(chart.panels.back())) refuse_range(options);
  }
  if (options.metric != "loss" && std::ranges::any_of(runs, &Losses::has_accuracy))
    chart.panels.push_back(accuracy_panel(runs, options));
  if (chart.panels.empty())
    throw InputError(runs.front().run.metrics.string() + ": has no losses; leave --metric loss out");
  formats::write_atomically(options.output, drawing::draw_chart(chart, format));
  return names;
}

}  // namespace igpt::runs
