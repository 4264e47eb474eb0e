// A tensor around its two factored dimensions, as learned/fast_blocks.py has it: what varies along one of them only.

#ifndef LEARNED_AGGREGATION_VIEWS_H_
#define LEARNED_AGGREGATION_VIEWS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller, and inlined there as freely as if written there

// [A, p, B, q, C]; p and q are the factored dimensions. All 1 but q for rank < 2.
struct View {
  int64_t a, p, b, q, c;
  int64_t size() const { return a * p * b * q * c; }
  int64_t line() const { return q * c; }  // parameters with one index into [A, p, B]
  int64_t size_p() const { return a * p * b * c; }
  int64_t size_q() const { return a * b * q * c; }
  // The index into [A, B] of a line.
  int64_t beside(int64_t line) const { return line / (b * p) * b + line % b; }
};

// does(start, length, line, j) for each run of parameters of [offset, offset + count) that lie on one line, of which
// the first is the line's j-th.
template <typename Does>
void each_run(const View& v, int64_t offset, int64_t count, const Does& does) {
  const int64_t size = v.line();
  int64_t line = offset / size, j = offset % size;
  for (int64_t done = 0; done < count; ++line, j = 0) {
    const int64_t length = std::min(size - j, count - done);
    does(done, length, line, j);
    done += length;
  }
}

// to [count] <- along_p [A, p, B, C] * along_q [A, B, q, C] of the parameters from `offset` on.
void products(const View& v, int64_t offset, int64_t count, const float* along_p, const float* along_q, float* to) {
  each_run(v, offset, count, [&](int64_t start, int64_t length, int64_t line, int64_t j) {
    const float *p = along_p + line * v.c, *q = along_q + v.beside(line) * v.line() + j;
    float* out = to + start;
    if (v.c == 1) {
#pragma GCC ivdep
      for (int64_t i = 0; i < length; ++i) out[i] = p[0] * q[i];
    } else {
      for (int64_t i = 0, c = j % v.c; i < length; ++i, c = c + 1 == v.c ? 0 : c + 1) out[i] = p[c] * q[i];
    }
  });
}

// along_p [A, p, B, C] and along_q [A, B, q, C]: the sums over q and over p of the squares of a tensor that is given
// in order, some parameters at a time. A line is summed in double; lines are summed kLines at a time, so that the
// thousands of a large matrix lose no digits.
class SquaresAlong {
 public:
  SquaresAlong(const View& v, float* along_p, float* along_q)
      : v_(v), along_p_(along_p), along_q_(along_q), line_(v.c), recent_(v.p > kLines ? v.b * v.line() : 0) {
    std::fill(along_q, along_q + v.size_q(), 0.0f);
  }

  void add(const float* x, int64_t offset, int64_t count) {
    each_run(v_, offset, count, [&](int64_t start, int64_t length, int64_t line, int64_t j) {
      const int64_t beside = v_.beside(line), size = v_.line();
      float* total = along_q_ + beside * size;
      float* q = recent_.empty() ? total : recent_.data() + line % v_.b * size;
      add_run(x + start, length, q + j, j);
      if (j + length < size) return;
      for (int64_t c = 0; c < v_.c; ++c) along_p_[line * v_.c + c] = static_cast<float>(line_[c]);
      std::fill(line_.begin(), line_.end(), 0.0);
      const int64_t place = line / v_.b % v_.p;
      if (recent_.empty() || (place % kLines != kLines - 1 && place != v_.p - 1)) return;
#pragma GCC ivdep
      for (int64_t i = 0; i < size; ++i) total[i] += q[i];
      std::fill(q, q + size, 0.0f);
    });
  }

 private:
  static constexpr int64_t kLines = 32;

  void add_run(const float* x, int64_t length, float* q, int64_t j) {
    if (v_.c > 1) {
      for (int64_t i = 0, c = j % v_.c; i < length; ++i, c = c + 1 == v_.c ? 0 : c + 1) {
        q[i] += x[i] * x[i];
        line_[c] += x[i] * x[i];
      }
      return;
    }
    Vector sum = {};
    int64_t i = 0;
    for (; i + kLanes <= length; i += kLanes) {
      const Vector square = load(x + i) * load(x + i);
      store(q + i, load(q + i) + square);
      sum += square;
    }
    line_[0] += total(sum);
    for (; i < length; ++i) {
      q[i] += x[i] * x[i];
      line_[0] += x[i] * x[i];
    }
  }

  View v_;
  float *along_p_, *along_q_;
  std::vector<double> line_;
  std::vector<float> recent_;
};

}  // namespace
}  // namespace learned_aggregation

#endif
