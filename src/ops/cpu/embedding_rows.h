#pragma once

#include <cstdint>
#include <vector>

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"

namespace igpt::ops::cpu {

/// Finds the rows of the token embeddings that a position adds up: the row of the token before it or, with neighbours,
/// one row in the table of each neighbour. A table has V + 1 rows, the last one (sos) for what lies outside the image.
class EmbeddingRows {
 public:
  static constexpr int kMost = kMostNeighbours;  ///< of one position

  explicit EmbeddingRows(const ModelShape& shape)
      : outside_(shape.num_vocab), side_(shape.side()), neighbours_(neighbourhood(shape.neighbours)) {}

  int64_t table_rows() const { return of_position() * (outside_ + 1); }  ///< of all tables together
  int64_t of_position() const { return neighbours_.empty() ? 1 : static_cast<int64_t>(neighbours_.size()); }

  /// Writes the rows of position `s` and returns how many there are. `tokens`: the image's, read before `s` only.
  template <class Token>
  int find(const Token* tokens, int64_t s, int64_t* rows) const {
    if (neighbours_.empty()) {
      rows[0] = s == 0 ? outside_ : tokens[s - 1];
      return 1;
    }
    const int64_t row = s / side_, column = s % side_;
    int64_t table = 0;
    int count = 0;
    for (const Neighbour& at : neighbours_) {
      rows[count++] = table + (at.is_inside(row, column, side_) ? tokens[s + at.down * side_ + at.right] : outside_);
      table += outside_ + 1;
    }
    return count;
  }

 private:
  int64_t outside_, side_;
  std::vector<Neighbour> neighbours_;
};

}  // namespace igpt::ops::cpu
