// The learned aggregators' network over one tensor, fused: what learned/fast.py computes from the same operands.
//
// Two passes over the tensor, a tile of parameters at a time: the mean squares that normalise the dense rows, then the
// network. A tile's features and hidden units stay in the L1 cache and its sums in registers, where XLA's CPU backend
// writes each layer to memory and reads it back. Leading batch dimensions (inner problems, antithetic arms) are a loop.

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

constexpr int kDecays = 3;
constexpr int kMostDerived = 4 * kDecays + 1;

// Operands of one tensor of n parameters; names as in learned/fast.py.
struct Tensor {
  int64_t n, deltas_count, hidden;
  bool factored;
  View view;  // C is 1
  const float *deltas, *param, *mean, *momentum, *rms, *diag, *factor_p, *factor_q, *along_p, *along_q;
  int64_t size_p() const { return view.size_p(); }
  int64_t size_q() const { return view.size_q(); }
  int64_t derived() const { return factored ? 3 * kDecays + 1 : kMostDerived; }
  int64_t rows() const { return deltas_count + (factored ? 2 + kDecays : 2 + 2 * kDecays) + derived(); }
};

// A run of parameters of a tile with one index into the statistics along p and consecutive ones along q.
struct Run {
  int start, length;
  int64_t at_p, at_q;
};

// The runs of the tile [offset, offset + count): their number.
int runs_of(const View& v, int64_t offset, int count, Run* runs) {
  int found = 0;
  each_run(v, offset, count, [&](int64_t start, int64_t length, int64_t line, int64_t j) {
    runs[found++] = {static_cast<int>(start), static_cast<int>(length), line, v.beside(line) * v.q + j};
  });
  return found;
}

// A tile: its place in the tensor, and the statistics its parameters fall under.
struct Tile {
  Tile(const Tensor& t, int64_t start)
      : offset(start), count(static_cast<int>(std::min<int64_t>(kTile, t.n - start))),
        run_count(t.factored ? runs_of(t.view, offset, count, runs) : 0) {}
  bool whole() const { return count == kTile; }
  bool in_one_run() const { return whole() && run_count == 1; }
  // Vector v of the tile in an array [n]; lanes after the last parameter are zeros.
  Vector read(const float* from, int v) const {
    from += offset + v * kLanes;
    if (whole()) return load(from);
    Vector found = {};
    for (int i = 0; i < std::min(kLanes, count - v * kLanes); ++i) found[i] = from[i];
    return found;
  }
  Vector within(Vector x, int v) const {
    for (int i = 0; !whole() && i < kLanes; ++i) x[i] = v * kLanes + i < count ? x[i] : 0.0f;
    return x;
  }
  int64_t offset;
  int count;
  Run runs[kTile];
  int run_count;
};

// to [kTile + kLanes] <- rule(along_p, along_q) of each parameter of a tile; along_q ends at `end`. A run's last vector
// may reach into the next run, whose own then covers that.
template <typename Rule>
void spread(const Tile& tile, const float* along_p, const float* along_q, const float* end, const Rule& rule,
            float* to) {
  for (int r = 0; r < tile.run_count; ++r) {
    const Run& run = tile.runs[r];
    const Vector p = Vector{} + along_p[run.at_p];
    for (int i = 0; i < run.length; i += kLanes) {
      const float* q = along_q + run.at_q + i;
      if (q + kLanes <= end)
        store(to + run.start + i, rule(p, load(q)));
      else
        for (int j = 0; q + j < end; ++j) to[run.start + i + j] = rule(p, Vector{} + q[j])[0];
    }
  }
}

// Adafactor's factor of decay d at vector v of a tile: p[d] * q[d][v ...].
struct Factors {
  Factors(const Tensor& t, const Tile& tile) {
    for (int d = 0; t.factored && d < kDecays; ++d) {
      const float *along_p = t.factor_p + d * t.size_p(), *along_q = t.factor_q + d * t.size_q();
      p[d] = tile.in_one_run() ? along_p[tile.runs[0].at_p] : 1.0f;
      q[d] = tile.in_one_run() ? along_q + tile.runs[0].at_q : spare[d];
      if (!tile.in_one_run())
        spread(tile, along_p, along_q, along_q + t.size_q(), [](Vector p, Vector q) { return p * q; }, spare[d]);
    }
  }
  float p[kDecays];
  const float* q[kDecays];
  alignas(64) float spare[kDecays][kTile + kLanes];
};

// The dense rows that are arrays [n], in the order of fast.stored_rows: row(from) for each.
template <typename Row>
inline void stored_rows(const Tensor& t, const Row& row) {
  for (int64_t k = 0; k < t.deltas_count; ++k) row(t.deltas + k * t.n);
  row(t.param);
  for (int d = 0; d < kDecays; ++d) row(t.momentum + d * t.n);
  row(t.rms);
  for (int d = 0; !t.factored && d < kDecays; ++d) row(t.diag + d * t.n);
}

// Those of fast.derived_rows at vector v of a tile: row(i, x) for the i-th.
template <typename Row>
[[gnu::always_inline]] inline void derived_rows(const Tensor& t, const Tile& tile, const Factors& factors, int v,
                                                const Row& row) {
  const Vector mean = tile.read(t.mean, v), inverse = inverse_root(tile.read(t.rms, v) + 1e-6f);
  row(kDecays, inverse);
#pragma GCC unroll 3
  for (int d = 0; d < kDecays; ++d) {
    const Vector momentum = tile.read(t.momentum + d * t.n, v);
    row(d, momentum * inverse);
    if (t.factored) {
      const Vector factor = factors.p[d] * load(factors.q[d] + v * kLanes);
      row(kDecays + 1 + d, mean * factor);
      row(2 * kDecays + 1 + d, momentum * factor);
    } else {
      const Vector diag = tile.read(t.diag + d * t.n, v), some = diag + 1e-9f;
      row(kDecays + 1 + d, mean * inverse_root(some < 1e-9f ? Vector{} + 1e-9f : some));
      row(2 * kDecays + 1 + d, momentum * inverse_root(diag + 1e-6f));
      row(3 * kDecays + 1 + d, inverse_root(diag + 1e-8f));
    }
  }
}

// Memory for a tensor's step, used again for the next problem's: a tile's rows and hidden units.
struct Scratch {
  explicit Scratch(const Tensor& t)
      : x(t.rows() * kTile), units(t.hidden * kTile + kLanes), weights(t.rows() * t.hidden), sums(t.rows()) {}
  Buffer x, units, weights;
  std::vector<double> sums;
};

// answers [2, V]: direction and magnitude of a tile. kHidden is t.hidden, or 0 for one not known in advance.
template <int64_t kHidden, int V>
[[gnu::always_inline]] inline void answer(const Tensor& t, const Network& net, const Tile& tile, Scratch& scratch,
                                          Vector answers[2][V]) {
  const int64_t hidden = kHidden ? kHidden : t.hidden;
  float* units = scratch.units.data();
  const bool one_run = tile.in_one_run();
  if (t.factored && !one_run)
    for (int unit = 0; unit < hidden; ++unit)
      spread(tile, t.along_p + unit * t.size_p(), t.along_q + unit * t.size_q(), t.along_q + hidden * t.size_q(),
             [](Vector p, Vector q) { return p + q; }, units + unit * V * kLanes);
  auto first = [&](int unit, Vector sums[kUnits][V]) {
    if (one_run) {
      const float* along_p = t.along_p + unit * t.size_p() + tile.runs[0].at_p;
      const float* along_q = t.along_q + unit * t.size_q() + tile.runs[0].at_q;
      for (int u = 0; u < kUnits; ++u)
        for (int v = 0; v < V; ++v)
          sums[u][v] = (net.b0[unit + u] + along_p[u * t.size_p()]) + load(along_q + u * t.size_q() + v * kLanes);
    } else {
      for (int u = 0; u < kUnits; ++u)
        for (int v = 0; v < V; ++v) {
          const Vector bias = Vector{} + net.b0[unit + u];
          sums[u][v] = t.factored ? bias + load(units + ((unit + u) * V + v) * kLanes) : bias;
        }
    }
  };
  apply<V>(net, t.rows(), hidden, scratch.x.data(), units, first, answers);
}

// What a step is made with beside the tensor.
struct Output {
  float scale, exponent;
};

double squares(const float* x, int64_t count) {
  Vector sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes)
    for (int v = 0; v < 4; ++v) sums[v] += load(x + i + v * kLanes) * load(x + i + v * kLanes);
  double found = 0.0;
  for (; i < count; ++i) found += x[i] * x[i];
  return found + total(sums[0] + sums[1] + (sums[2] + sums[3]));
}

// sums [rows] of the squares of each row.
void add_squares(const Tensor& t, double* sums) {
  constexpr int64_t kBlock = 64 * kTile;  // stays in the cache; a lane's sum over it is exact enough
  for (int64_t start = 0; start < t.n; start += kBlock) {
    double* sum = sums;
    stored_rows(t, [&](const float* from) { *sum++ += squares(from + start, std::min(kBlock, t.n - start)); });
    Vector derived[kMostDerived] = {};
    for (int64_t offset = start; offset < std::min(start + kBlock, t.n); offset += kTile) {
      const Tile tile(t, offset);
      const Factors factors(t, tile);
      for (int v = 0; v * kLanes < tile.count; ++v)
        derived_rows(t, tile, factors, v, [&](int i, Vector x) { derived[i] += tile.within(x, v) * tile.within(x, v); });
    }
    for (int i = 0; i < t.derived(); ++i) *sum++ += total(derived[i]);
  }
}

// step = -scale * direction * exp(exponent * magnitude) of a tile.
template <int V>
void tile_step(const Tensor& t, const Tile& tile, const Network& net, const Output& output, Scratch& scratch,
               float* step) {
  float* rows = scratch.x.data();
  stored_rows(t, [&](const float* from) {
    for (int v = 0; v < V; ++v, rows += kLanes) {
      __builtin_prefetch(from + tile.offset + kTile + v * kLanes);  // the next tile's
      store(rows, tile.read(from, v));
    }
  });
  for (int v = 0; v < V; ++v) {
    __builtin_prefetch(t.mean + tile.offset + kTile + v * kLanes);
    __builtin_prefetch(step + tile.offset + kTile + v * kLanes, 1);
  }
  const Factors factors(t, tile);
  for (int v = 0; v < V; ++v)
    derived_rows(t, tile, factors, v, [&](int i, Vector x) { store(rows + (i * V + v) * kLanes, x); });
  Vector answers[2][V];
  if (t.hidden == 32)
    answer<32, V>(t, net, tile, scratch, answers);
  else
    answer<0, V>(t, net, tile, scratch, answers);
  for (int v = 0; v < V; ++v) {
    const Vector made = -output.scale * answers[0][v] * exponential(output.exponent * answers[1][v]);
    if (tile.whole())
      store(step + tile.offset + v * kLanes, made);
    else
      for (int i = 0; i < std::min(kLanes, tile.count - v * kLanes); ++i) step[tile.offset + v * kLanes + i] = made[i];
  }
}

// step [n] of a tensor.
void tensor_step(const Tensor& t, const Network& given, const Output& output, Scratch& scratch, float* step) {
  const int64_t rows = t.rows(), hidden = t.hidden;
  auto& sums = scratch.sums;
  std::fill(sums.begin(), sums.end(), 0.0);
  add_squares(t, sums.data());
  float* weights = scratch.weights.data();
  for (int64_t f = 0; f < rows; ++f) {
    const float scaled = 1.0f / std::sqrt(1e-5f + static_cast<float>(sums[f] / t.n));
    for (int64_t h = 0; h < hidden; ++h) weights[f * hidden + h] = given.w0[f * hidden + h] * scaled;
  }
  const Network net = {weights, given.b0, given.w1, given.b1, given.w2, given.b2};
  for (int64_t offset = 0; offset < t.n; offset += kTile) {
    const Tile tile(t, offset);
    with_vectors(tile.count, [&](auto vectors) { tile_step<vectors.value>(t, tile, net, output, scratch, step); });
  }
}

ffi::Error Step(F32 deltas, F32 param, F32 mean, F32 momentum, F32 rms, F32 diag, F32 factor_p, F32 factor_q,
                F32 along_p, F32 along_q, F32 w0, F32 b0, F32 w1, F32 b1, F32 w2, F32 b2, F32 output,
                Out step, int64_t a, int64_t p, int64_t b, int64_t q, bool factored) {
  const Batch batch(param, 1);
  Tensor t;
  t.n = batch.dimension(param, 0);
  t.deltas_count = batch.dimension(deltas, 0);
  t.hidden = batch.dimension(b0, 0);
  t.factored = factored;
  t.view = {a, p, b, q, 1};
  if (t.hidden % kUnits) return ffi::Error::InvalidArgument("the hidden size must be a multiple of 4");
  if (batch.dimension(w0, 0) != t.rows() || t.view.size() != t.n)
    return ffi::Error::InvalidArgument("shapes do not fit");
  auto at = [&](const F32& x, int64_t i) { return batch.at(x, i); };
  Scratch scratch(t);
  for (int64_t i = 0; i < batch.size; ++i) {
    t.deltas = at(deltas, i), t.param = at(param, i), t.mean = at(mean, i), t.momentum = at(momentum, i);
    t.rms = at(rms, i), t.diag = at(diag, i), t.factor_p = at(factor_p, i), t.factor_q = at(factor_q, i);
    t.along_p = at(along_p, i), t.along_q = at(along_q, i);
    const Network net = {at(w0, i), at(b0, i), at(w1, i), at(b1, i), at(w2, i), at(b2, i)};
    const float* sizes = at(output, i);
    tensor_step(t, net, {sizes[0], sizes[1]}, scratch, batch.at(step, i));
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(AdafacStep, Step,
                              ffi::Ffi::Bind()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Ret<F32>()
                                  .Attr<int64_t>("a").Attr<int64_t>("p").Attr<int64_t>("b").Attr<int64_t>("q")
                                  .Attr<bool>("factored"));
