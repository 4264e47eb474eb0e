// What a core can do just now, with the vectors that the kernels have: multiply-adds in registers, and reading.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "vectors.h"

using namespace learned_aggregation;

namespace {

constexpr int kSums = 12;  // as many as there are registers for, where there are 16
volatile float seen;       // what has no effect would be left out

template <size_t... s>
Vector add_up(int64_t times, std::index_sequence<s...>) {
  Vector factor = Vector{} + 0.5f, term = Vector{} + 1.0f;
  keep(factor);
  keep(term);
  // In registers of their own: an array would lie in memory.
  return [&](auto... sums) {
    for (int64_t i = 0; i < times; ++i) {
      ((sums = sums * factor + term), ...);
      (keep(sums), ...);
    }
    return (sums + ...);
  }((Vector{} + static_cast<float>(s))...);
}

}  // namespace

// `times` rounds of multiply-adds, each of which waits for its own last alone; returns the floating-point operations.
extern "C" double multiply_adds(int64_t times) {
  seen = add_up(times, std::make_index_sequence<kSums>{})[0];
  return 2.0 * kSums * kLanes * times;
}

// Reads `count` floats, or a few less.
extern "C" void read_floats(const float* x, int64_t count) {
  Vector sums[8] = {};
  for (int64_t i = 0; i + 8 * kLanes <= count; i += 8 * kLanes)
    for (int v = 0; v < 8; ++v) sums[v] += load(x + i + v * kLanes);
  for (int v = 0; v < 8; ++v) seen = sums[v][0];
}
