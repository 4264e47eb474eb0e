// What a core can do just now, with the vectors that the kernels have: multiply-adds in registers, and reading.

#include <cstdint>

#include "vectors.h"

using namespace learned_aggregation;

// `times` rounds of twelve multiply-adds that wait only for their own last; returns the floating-point operations.
extern "C" double multiply_adds(int64_t times) {
  constexpr int kSums = 12;
  Vector sums[kSums], factor = Vector{} + 0.5f, term = Vector{} + 1.0f;
  for (int s = 0; s < kSums; ++s) sums[s] = Vector{} + s;  // of equal ones the compiler would make one
  keep(factor);
  keep(term);
  for (int64_t i = 0; i < times; ++i) {
    for (int s = 0; s < kSums; ++s) sums[s] = sums[s] * factor + term;
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) keep(sums[s]);
  }
  Vector all = {};
  for (int s = 0; s < kSums; ++s) all += sums[s];
  keep(all);
  return 2.0 * kSums * kLanes * times;
}

// Reads `count` floats, a multiple of four vectors.
extern "C" void read_floats(const float* x, int64_t count) {
  Vector sums[4] = {};
  for (int64_t i = 0; i + 4 * kLanes <= count; i += 4 * kLanes)
    for (int v = 0; v < 4; ++v) sums[v] += load(x + i + v * kLanes);
  for (int v = 0; v < 4; ++v) keep(sums[v]);
}
