#pragma once

#include <cstdint>
#include <vector>

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"

namespace igpt::ops::cpu {

/// Finds the rows of the token embeddings that a position adds up: the row of the token before it or, with neighbours,
/// one row in the table of each neighbour, which has V + 1 rows, the last one for what lies outside the image. The
/// start tokens come behind the tables. An image begins with one of them, in the place of the token before the first or
/// of the first position's first neighbour.
class EmbeddingRows {
 public:
  static constexpr int kMost = kMostNeighbours;  ///< of one position

  explicit EmbeddingRows(const ModelShape& shape)
      : outside_(shape.num_vocab),
        side_(shape.side()),
        starts_(shape.start_tokens()),
        neighbours_(neighbourhood(shape.neighbours)) {}

  int64_t token_rows() const {  ///< of all tables together
    return neighbours_.empty() ? outside_ : static_cast<int64_t>(neighbours_.size()) * (outside_ + 1);
  }
  int64_t rows() const { return token_rows() + starts_; }

  /// Writes the rows of position `s` and returns how many there are. `tokens`: the image's, read before `s` only;
  /// `start`: its start token among those that there are.
  template <class Token>
  int find(const Token* tokens, int64_t start, int64_t s, int64_t* rows) const {
    if (neighbours_.empty()) {
      rows[0] = s == 0 ? token_rows() + start : tokens[s - 1];
      return 1;
    }
    const int64_t row = s / side_, column = s % side_;
    int64_t table = 0;
    int count = 0;
    for (const Neighbour& at : neighbours_) {
      rows[count++] = table + (at.is_inside(row, column, side_) ? tokens[s + at.down * side_ + at.right] : outside_);
      table += outside_ + 1;
    }
    if (s == 0 && starts_ > 0) rows[0] = token_rows() + start;
    return count;
  }

 private:
  int64_t outside_, side_, starts_;
  std::vector<Neighbour> neighbours_;
};

}  // namespace igpt::ops::cpu
