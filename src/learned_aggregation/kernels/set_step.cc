// The step of fedlagg-set on one tensor, from what set_statistics.cc found: features, network, trust. See
// learned/set_rule.py. Two calls: the mean squares of what is known only after the whole tensor has been read, then
// the step, a tile of parameters at a time.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "network.h"
#include "operands.h"
#include "vectors.h"
#include "views.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

constexpr int kMomenta = 3, kFeatures = 10 + kMomenta, kTerms = 4 + kMomenta;
constexpr int64_t kBlock = 32 * kTile;
constexpr int kAhead = 256;  // floats to what is asked for in advance: more arrays than the processor follows by itself

// The arrays [n] that features are made of. Of a matrix, `factor` is the block's; else its place is taken by
// 1 / root of `second`.
struct Rows {
  const float *mean, *momentum[kMomenta], *second, *velocity, *factor, *spread, *sign, *param;
};

Rows at(Rows r, int64_t offset, int64_t in_block) {
  for (const float** row : {&r.mean, &r.second, &r.velocity, &r.spread, &r.sign, &r.param}) *row += offset;
  for (int m = 0; m < kMomenta; ++m) r.momentum[m] += offset;
  if (r.factor) r.factor += in_block;
  return r;
}

// The base's step: terms[0] mean + terms[1 ...] momenta + velocity + (mean + slow momentum) / root of second.
inline Vector base_step(const float* terms, Vector mean, const Vector* momentum, Vector velocity, Vector inverse) {
  Vector step = terms[0] * mean;
  for (int m = 0; m < kMomenta; ++m) step += terms[1 + m] * momentum[m];
  step += terms[1 + kMomenta] * velocity;
  return step + (terms[2 + kMomenta] * mean + terms[3 + kMomenta] * momentum[1]) * inverse;
}

// Of the base's step, of mean * factor and of slow momentum * factor: the sums of their squares over the tensor.
void squares(const Rows& rows, const View& view, const float* factor_p, const float* factor_q, const float* terms,
             int64_t n, bool factored, float tiny, float* sums) {
  alignas(64) float factor[kBlock];
  const bool of_root = terms[2 + kMomenta] != 0.0f || terms[3 + kMomenta] != 0.0f;
  double total_of[3] = {};
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t count = std::min(kBlock, n - start);
    if (factored) products(view, start, count, factor_p, factor_q, factor);
    Vector found[3] = {};
    for (int64_t i = 0; i < count; i += kLanes) {
      auto read = [&](const float* from) { return load_up_to(from, count - i); };
      const Rows r = at(rows, start + i, 0);
      const Vector mean = read(r.mean);
      Vector momentum[kMomenta] = {};
      for (int m = 0; m < kMomenta; ++m)
        if (m == 1 || terms[1 + m] != 0.0f) momentum[m] = read(r.momentum[m]);
      const Vector velocity = terms[1 + kMomenta] != 0.0f ? read(r.velocity) : Vector{};
      const Vector inverse = of_root ? inverse_root(read(r.second) + tiny) : Vector{};
      const Vector base = base_step(terms, mean, momentum, velocity, inverse);
      found[0] += base * base;
      if (!factored) continue;
      const Vector by = load_up_to(factor + i, count - i), fast = mean * by, slow = momentum[1] * by;
      found[1] += fast * fast;
      found[2] += slow * slow;
    }
    for (int k = 0; k < 3; ++k) total_of[k] += total(found[k]);
  }
  for (int k = 0; k < 3; ++k) sums[k] = static_cast<float>(total_of[k]);
}

// What is equal for all parameters of a tensor. inverse: 1 / root mean square of each feature; effective: the root of
// the clients' effective number; scale: the base's root mean square; limit: the step's largest.
struct Numbers {
  const float *terms, *inverse;
  float effective, scale, limit;
};

struct Constants {
  float tiny, least, bound, gain;
};

// x [kFeatures, V] <- the features of a tile, in the order of set_features.raw_features; base [V] <- the base's step.
template <int V>
[[gnu::always_inline]] inline void features(const Rows& r, const Numbers& numbers, const Constants& c, float* x,
                                            Vector base[V]) {
  for (int v = 0; v < V; ++v) {
    auto read = [&](const float* from) {
      __builtin_prefetch(from + kAhead + v * kLanes);
      return load(from + v * kLanes);
    };
    int row = 0;
    auto give = [&](Vector feature) {
      store(x + (row * V + v) * kLanes, clip(feature * numbers.inverse[row], c.bound));
      ++row;
    };
    const Vector mean = read(r.mean), spread = read(r.spread), inverse = inverse_root(read(r.second) + c.tiny);
    const Vector factor = r.factor ? read(r.factor) : inverse;
    Vector momentum[kMomenta];
    for (int m = 0; m < kMomenta; ++m) momentum[m] = read(r.momentum[m]);
    base[v] = base_step(numbers.terms, mean, momentum, read(r.velocity), inverse);
    give(mean);
    give(base[v]);
    for (int m = 0; m < kMomenta; ++m) give(momentum[m]);
    give(spread);
    give(read(r.param));
    give(mean * inverse);
    give(momentum[1] * inverse);
    give(mean * factor);
    give(momentum[1] * factor);
    give(mean * numbers.effective / (spread + c.least));
    give(read(r.sign));
  }
}

// A tensor of n parameters. step and last are both its step.
struct Tensor {
  int64_t n, hidden;
  bool factored;
  View view;
  Rows rows;
  const float *factor_p, *factor_q;
  float *step, *last;
};

struct Scratch {
  explicit Scratch(int64_t hidden)
      : x(kFeatures * kTile), units(hidden * kTile), rest(kRows * kTile), factor(kBlock + kTile) {}
  static constexpr int kRows = 7 + kMomenta;
  Buffer x, units, rest, factor;
};

// The rows of the last parameters of a tensor, fewer than a tile, with zeros behind them.
Rows padded_rows(Rows r, int64_t count, float* to) {
  std::fill(to, to + Scratch::kRows * kTile, 0.0f);
  auto pad = [&](const float*& row) {
    std::copy(row, row + count, to);
    row = to;
    to += kTile;
  };
  for (const float** row : {&r.mean, &r.second, &r.velocity, &r.spread, &r.sign, &r.param}) pad(*row);
  for (int m = 0; m < kMomenta; ++m) pad(r.momentum[m]);
  if (r.factor) pad(r.factor);
  return r;
}

// steps [V] of a tile whose rows are whole.
template <int64_t kHidden, int V>
[[gnu::always_inline]] inline void tile_step(const Rows& r, const Network& net, int64_t hidden, const Numbers& numbers,
                                             const Constants& c, Scratch& scratch, Vector steps[V]) {
  Vector base[V], answers[2][V];
  features<V>(r, numbers, c, scratch.x.data(), base);
  auto first = [&](int unit, Vector sums[kUnits][V]) {
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < V; ++v) sums[u][v] = Vector{} + net.b0[unit + u];
  };
  apply<V>(net, kFeatures, kHidden ? kHidden : hidden, scratch.x.data(), scratch.units.data(), first, answers);
  for (int v = 0; v < V; ++v) {
    const Vector gate = exponential(c.gain * hyperbolic_tangent(answers[0][v] / c.gain));
    steps[v] = base[v] * gate - numbers.scale * hyperbolic_tangent(answers[1][v]);
  }
}

template <int64_t kHidden>
void tensor_step(const Tensor& t, const Network& net, const Numbers& numbers, const Constants& c, Scratch& scratch) {
  double squares = 0.0;
  for (int64_t start = 0; start < t.n; start += kBlock) {
    const int64_t size = std::min(kBlock, t.n - start);
    Rows rows = t.rows;
    if (t.factored) {
      products(t.view, start, size, t.factor_p, t.factor_q, scratch.factor.data());
      rows.factor = scratch.factor.data();
    }
    Vector of_block = {};
    int64_t offset = 0;
    for (; offset + kTile <= size; offset += kTile) {
      Vector steps[kVectors];
      tile_step<kHidden, kVectors>(at(rows, start + offset, offset), net, t.hidden, numbers, c, scratch, steps);
      for (int v = 0; v < kVectors; ++v) {
        of_block += steps[v] * steps[v];
        store(t.step + start + offset + v * kLanes, steps[v]);
        store(t.last + start + offset + v * kLanes, steps[v]);
      }
    }
    squares += total(of_block);
    if (offset == size) continue;
    const Rows r = padded_rows(at(rows, start + offset, offset), size - offset, scratch.rest.data());
    with_vectors(size - offset, [&](auto vectors) {
      constexpr int V = vectors.value;
      Vector steps[V];
      tile_step<kHidden, V>(r, net, t.hidden, numbers, c, scratch, steps);
      for (int64_t i = 0; offset + i < size; ++i) {
        const float step = steps[i / kLanes][i % kLanes];
        squares += step * step;
        t.step[start + offset + i] = t.last[start + offset + i] = step;
      }
    });
  }
  // Shortened if its root mean square is over the limit; NaN as well.
  const float trust = numbers.limit / std::sqrt(static_cast<float>(squares / t.n) + c.tiny);
  if (trust >= 1.0f) return;
  for (int64_t i = 0; i < t.n; ++i) t.step[i] = t.last[i] = t.step[i] * trust;
}

// The network with as many hidden units as are a multiple of kUnits: those added answer nothing.
class Padded {
 public:
  Padded(int64_t hidden) : hidden_(hidden), size((hidden + kUnits - 1) / kUnits * kUnits) {}

  Network operator()(const Network& net) {
    if (size == hidden_) return net;
    buffer_.assign((kFeatures + 1 + size + 1 + 2) * size, 0.0f);
    float* to = buffer_.data();
    auto rows = [&](const float* from, int64_t count, int64_t width, int64_t padded_width) {
      const float* start = to;
      for (int64_t i = 0; i < count; ++i) std::copy(from + i * width, from + (i + 1) * width, to + i * padded_width);
      return start;
    };
    Network wider = net;
    wider.w0 = rows(net.w0, kFeatures, hidden_, size), to += kFeatures * size;
    wider.b0 = rows(net.b0, 1, hidden_, size), to += size;
    wider.w1 = rows(net.w1, hidden_, hidden_, size), to += size * size;
    wider.b1 = rows(net.b1, 1, hidden_, size), to += size;
    wider.w2 = rows(net.w2, hidden_, 2, 2);
    return wider;
  }

 private:
  int64_t hidden_;
  std::vector<float> buffer_;

 public:
  const int64_t size;
};

Rows rows_of(const Batch& batch, int64_t i, F32 mean, F32 momentum, F32 second, F32 velocity) {
  const int64_t n = batch.dimension(second, 0);
  Rows r = {};
  r.mean = batch.at(mean, i);
  for (int m = 0; m < kMomenta; ++m) r.momentum[m] = batch.at(momentum, i) + m * n;
  r.second = batch.at(second, i);
  r.velocity = batch.dimension(velocity, 0) == n ? batch.at(velocity, i) : r.mean;  // without one its term is 0
  return r;
}

ffi::Error Squares(F32 mean, F32 momentum, F32 second, F32 velocity, F32 factor_p, F32 factor_q, F32 terms, Out sums,
                   int64_t a, int64_t p, int64_t b, int64_t q, int64_t c, bool factored, float tiny) {
  const Batch batch(mean, 1);
  const int64_t n = batch.dimension(mean, 0);
  const View view = {a, p, b, q, c};
  if (view.size() != n || batch.dimension(momentum, 0) != kMomenta || batch.dimension(terms, 0) != kTerms)
    return ffi::Error::InvalidArgument("shapes do not fit");
  for (int64_t i = 0; i < batch.size; ++i)
    squares(rows_of(batch, i, mean, momentum, second, velocity), view, batch.at(factor_p, i), batch.at(factor_q, i),
            batch.at(terms, i), n, factored, tiny, batch.at(sums, i));
  return ffi::Error::Success();
}

ffi::Error Step(F32 mean, F32 momentum, F32 second, F32 velocity, F32 factor_p, F32 factor_q, F32 terms, F32 spread,
                F32 sign, F32 param, F32 inverse, F32 numbers, F32 w0, F32 b0, F32 w1, F32 b1, F32 w2, F32 b2, Out last,
                Out step, int64_t a, int64_t p, int64_t b, int64_t q, int64_t c, bool factored, float tiny, float least,
                float bound, float gain) {
  const Batch batch(mean, 1);
  const int64_t n = batch.dimension(mean, 0), hidden = batch.dimension(b0, 0);
  const View view = {a, p, b, q, c};
  if (view.size() != n || batch.dimension(momentum, 0) != kMomenta || batch.dimension(terms, 0) != kTerms ||
      batch.dimension(w0, 0) != kFeatures || batch.dimension(inverse, 0) != kFeatures)
    return ffi::Error::InvalidArgument("shapes do not fit");
  Padded padded(hidden);
  Scratch scratch(padded.size);
  for (int64_t i = 0; i < batch.size; ++i) {
    auto at = [&](const F32& x) { return batch.at(x, i); };
    Rows rows = rows_of(batch, i, mean, momentum, second, velocity);
    rows.spread = at(spread), rows.sign = at(sign), rows.param = at(param);
    const Tensor t = {n,           padded.size,  factored,         view,            rows,
                      at(factor_p), at(factor_q), batch.at(step, i), batch.at(last, i)};
    const Network net = padded({at(w0), at(b0), at(w1), at(b1), at(w2), at(b2)});
    const float* some = at(numbers);
    const Numbers of_tensor = {at(terms), at(inverse), some[0], some[1], some[2]};
    const Constants constants = {tiny, least, bound, gain};
    if (t.hidden == 32)
      tensor_step<32>(t, net, of_tensor, constants, scratch);
    else
      tensor_step<0>(t, net, of_tensor, constants, scratch);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(SetSquares, Squares,
                              ffi::Ffi::Bind()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Ret<F32>()
                                  .Attr<int64_t>("a").Attr<int64_t>("p").Attr<int64_t>("b").Attr<int64_t>("q")
                                  .Attr<int64_t>("c").Attr<bool>("factored").Attr<float>("tiny"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(SetStep, Step,
                              ffi::Ffi::Bind()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Ret<F32>().Ret<F32>()
                                  .Attr<int64_t>("a").Attr<int64_t>("p").Attr<int64_t>("b").Attr<int64_t>("q")
                                  .Attr<int64_t>("c").Attr<bool>("factored").Attr<float>("tiny").Attr<float>("least")
                                  .Attr<float>("bound").Attr<float>("gain"));
