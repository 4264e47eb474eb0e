// The learned aggregators' network on a tile of parameters: two hidden layers with ReLU, two outputs.
//
// A tile's features and hidden units stay in the L1 cache and its sums in registers, where XLA's CPU backend writes each
// layer to memory and reads it back.

#ifndef LEARNED_AGGREGATION_NETWORK_H_
#define LEARNED_AGGREGATION_NETWORK_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller, and inlined there as freely as if written there

// A block of sums is kUnits hidden units of kVectors vectors of parameters: with the vectors that they are made of, and
// one weight, as many as there are registers.
constexpr int kUnits = 4;
constexpr int kVectors = kManyRegisters ? 4 : 3;
constexpr int kTile = kLanes * kVectors;  // parameters of a tile

// w0 [inputs, hidden], b0, w1 [hidden, hidden], b1, w2 [hidden, 2], b2; hidden a multiple of kUnits.
struct Network {
  const float *w0, *b0, *w1, *b1, *w2, *b2;
};

// sums [kUnits, V] += w [units from `unit`, inputs]^T x [inputs, V]; w is [inputs, hidden].
template <int V>
[[gnu::always_inline]] inline void multiply(const float* w, int64_t hidden, int64_t inputs, const float* x, int unit,
                                            Vector sums[kUnits][V]) {
  const float* weights = w + unit;
  for (int64_t f = 0; f < inputs; ++f, weights += hidden, x += V * kLanes)
    with_loaded<V>(x, [&](auto... in) {
      for (int u = 0; u < kUnits; ++u) add_products(sums[u], weights[u], in...);
    });
}

// answers [2, V] of the features x [inputs, V]. `first(unit, sums)` gives what the first layer's sums begin with; `units`
// has room for [hidden, V] vectors.
template <int V, typename First>
[[gnu::always_inline]] inline void apply(const Network& net, int64_t inputs, int64_t hidden, const float* x,
                                         float* units, const First& first, Vector answers[2][V]) {
  for (int unit = 0; unit < hidden; unit += kUnits) {
    Vector sums[kUnits][V];
    first(unit, sums);
    multiply<V>(net.w0, hidden, inputs, x, unit, sums);
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < V; ++v) store(units + ((unit + u) * V + v) * kLanes, relu(sums[u][v]));
  }
  for (int o = 0; o < 2; ++o)
    for (int v = 0; v < V; ++v) answers[o][v] = Vector{} + net.b2[o];
  for (int unit = 0; unit < hidden; unit += kUnits) {
    Vector sums[kUnits][V];
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < V; ++v) sums[u][v] = Vector{} + net.b1[unit + u];
    multiply<V>(net.w1, hidden, hidden, units, unit, sums);
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < V; ++v)
        for (int o = 0; o < 2; ++o) answers[o][v] += net.w2[2 * (unit + u) + o] * relu(sums[u][v]);
  }
}

// does(V) for as few vectors as hold `count` parameters, at most a tile's.
template <int V = 1, typename Does>
inline void with_vectors(int64_t count, const Does& does) {
  if constexpr (V < kVectors) {
    if (count > V * kLanes) return with_vectors<V + 1>(count, does);
  }
  does(std::integral_constant<int, V>{});
}

}  // namespace
}  // namespace learned_aggregation

#endif
