// Products and transposes of matrices whose rows are padded to whole vectors.

#ifndef LEARNED_AGGREGATION_MATRICES_H_
#define LEARNED_AGGREGATION_MATRICES_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller, and inlined there as freely as if written there

// Of a tile of sums in registers.
constexpr int kRows = kManyRegisters ? 12 : 6, kVectors = 2;

int64_t padded(int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// A matrix that a product reads one by one: as it lies, or its transpose.
template <bool kTurned>
struct Left {
  const float* at;
  int64_t stride;
  int64_t row() const { return kTurned ? 1 : stride; }
  int64_t inner() const { return kTurned ? stride : 1; }
};
using AsItLies = Left<false>;
using Turned = Left<true>;

// A product of matrices, added to what `first` gives, given to `out`, a vector at a time:
// out(row, column, first(row, column) + sum over k of left[row, k] * right[k, column ...]).
// left is [rows, inner]; right [inner, width] with `width` a multiple of kLanes.
template <typename Left, typename First, typename Out>
struct Product {
  Left left;
  int64_t rows, inner;
  const float* right;
  int64_t width;
  First first;
  Out out;

  // R rows and V vectors of columns, whose sums stay in registers.
  template <int R, int V>
  void tile(int64_t row, int64_t column) const {
    Vector sums[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sums[r][v] = first(row + r, column + v * kLanes);
    const float* a = left.at + row * left.row();
    const float* b = right + column;
#pragma GCC unroll 4
    for (int64_t k = 0; k < inner; ++k, a += left.inner(), b += width) {
      Vector in[V];
      for (int v = 0; v < V; ++v) {
        in[v] = load(b + v * kLanes);
        keep(in[v]);
      }
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] += a[r * left.row()] * in[v];
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) out(row + r, column + v * kLanes, sums[r][v]);
  }

  // The rows that are left over when whole tiles are done: fewer than kRows.
  template <int V, int... R>
  void rest(std::integer_sequence<int, R...>, int64_t row, int64_t column) const {
    ((rows - row == R + 1 ? tile<R + 1, V>(row, column) : void()), ...);
  }

  template <int V>
  void columns(int64_t column) const {
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) tile<kRows, V>(row, column);
    rest<V>(std::make_integer_sequence<int, kRows - 1>{}, row, column);
  }

  void run() const {
    int64_t column = 0;
    for (; column + kVectors * kLanes <= width; column += kVectors * kLanes) columns<kVectors>(column);
    if (column < width) columns<1>(column);
  }
};

template <typename Left, typename First, typename Out>
void product(Left left, int64_t rows, int64_t inner, const float* right, int64_t width, First first, Out out) {
  Product<Left, First, Out>{left, rows, inner, right, width, first, out}.run();
}

// Two vectors' lanes taken in turn, of their first halves (0) or their second (1).
template <int kHalf, size_t... I>
inline Vector zip(Vector x, Vector y, std::index_sequence<I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, (kHalf * kLanes / 2 + I / 2 + I % 2 * kLanes)...);
#else
  return __builtin_shuffle(x, y, Ints{static_cast<int32_t>(kHalf * kLanes / 2 + I / 2 + I % 2 * kLanes)...});
#endif
}

// to [columns, to_width] <- the transpose of from [rows, from_width]; both have whole blocks of kLanes x kLanes.
void turn(const float* from, int64_t rows, int64_t columns, int64_t from_width, float* to, int64_t to_width) {
  constexpr auto lanes = std::make_index_sequence<kLanes>{};
  for (int64_t i = 0; i < rows; i += kLanes)
    for (int64_t j = 0; j < columns; j += kLanes) {
      Vector block[kLanes], zipped[kLanes];
      for (int r = 0; r < kLanes; ++r) block[r] = load(from + (i + r) * from_width + j);
      // Rows r and r + kLanes / 2 zipped: after log2(kLanes) times, each lane is at its place.
#pragma GCC unroll 4
      for (int times = 1; times < kLanes; times *= 2) {
#pragma GCC unroll 8
        for (int r = 0; r < kLanes / 2; ++r) {
          zipped[2 * r] = zip<0>(block[r], block[r + kLanes / 2], lanes);
          zipped[2 * r + 1] = zip<1>(block[r], block[r + kLanes / 2], lanes);
        }
        for (int r = 0; r < kLanes; ++r) block[r] = zipped[r];
      }
      for (int r = 0; r < kLanes; ++r) store(to + (j + r) * to_width + i, block[r]);
    }
}

}  // namespace
}  // namespace learned_aggregation

#endif
