// The learned aggregators' network over one tensor, fused: what learned/fast.py computes from the same operands.
//
// Two passes over the tensor, a tile of parameters at a time: the mean squares that normalise the dense rows, then the
// network. A tile's features and hidden units stay in the L1 cache and its sums in registers, where XLA's CPU backend
// writes each layer to memory and reads it back. Leading batch dimensions (inner problems, antithetic arms) are a loop.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

constexpr int kVectors = kManyRegisters ? 4 : 2;
constexpr int kTile = kLanes * kVectors;  // parameters of a tile
constexpr int kUnits = 4;                 // hidden units of a register block: 4 x kVectors vectors of sums
constexpr int kDecays = 3;

// The view [A, p, B, q] of a tensor around its factored dimensions p and q; all 1 but q for rank < 2.
struct View {
  int64_t a, p, b, q;
};

// Operands of one tensor of n parameters; names as in learned/fast.py.
struct Tensor {
  int64_t n, deltas_count, hidden;
  bool factored;
  View view;
  const float *deltas, *param, *mean, *momentum, *rms, *diag, *factor_p, *factor_q, *along_p, *along_q;
  int64_t size_p() const { return view.a * view.p * view.b; }
  int64_t size_q() const { return view.a * view.b * view.q; }
  int64_t rows() const { return deltas_count + (factored ? 15 : 21); }
};

// A run of parameters of a tile with one index into the statistics along p and consecutive ones along q.
struct Run {
  int start, length;
  int64_t at_p, at_q;
};

// The runs of the tile [offset, offset + count): their number.
int runs_of(const View& v, int64_t offset, int count, Run* runs) {
  int found = 0;
  int done = 0;
  int64_t line = offset / v.q;
  int64_t j = offset % v.q;
  while (done < count) {
    const int length = static_cast<int>(std::min<int64_t>(v.q - j, count - done));
    const int64_t b = line % v.b, a = line / (v.b * v.p);
    runs[found++] = {done, length, line, (a * v.b + b) * v.q + j};
    done += length;
    j = 0;
    ++line;
  }
  return found;
}

// x [kTile] <- from [count], the rest zeros.
inline void take(float* x, const float* from, int count) {
  if (count == kTile) {
    std::memcpy(x, from, sizeof(float) * kTile);
  } else {
    std::memset(x, 0, sizeof(float) * kTile);
    std::memcpy(x, from, sizeof(float) * count);
  }
}

// The dense rows of a tile, x [rows, kTile], in the order of fast.given_rows and fast.derived_rows.
void fill_rows(const Tensor& t, int64_t offset, int count, const Run* runs, int run_count, float* x) {
  const int64_t n = t.n;
  float* row = x;
  auto given = [&](const float* from, int64_t how_many) {
    for (int64_t k = 0; k < how_many; ++k, row += kTile) take(row, from + k * n + offset, count);
  };
  given(t.deltas, t.deltas_count);
  given(t.param, 1);
  const float* momentum = row;
  given(t.momentum, kDecays);
  const float* rms = row;
  given(t.rms, 1);
  const float* diag = row;
  if (!t.factored) given(t.diag, kDecays);
  alignas(64) float mean[kTile];
  take(mean, t.mean + offset, count);

  float* inverse = row + kDecays * kTile;
  for (int i = 0; i < kTile; ++i) inverse[i] = 1.0f / std::sqrt(rms[i] + 1e-6f);
  for (int d = 0; d < kDecays; ++d, row += kTile)
    for (int i = 0; i < kTile; ++i) row[i] = momentum[d * kTile + i] * inverse[i];
  row += kTile;
  float* by_mean = row;
  float* by_momentum = row + kDecays * kTile;
  for (int d = 0; d < kDecays; ++d) {
    alignas(64) float first[kTile], second[kTile];  // what the mean and the momentum are multiplied by
    if (t.factored) {
      std::memset(first, 0, sizeof first);
      for (int r = 0; r < run_count; ++r) {
        const float p = t.factor_p[d * t.size_p() + runs[r].at_p];
        const float* q = t.factor_q + d * t.size_q() + runs[r].at_q;
        for (int i = 0; i < runs[r].length; ++i) first[runs[r].start + i] = p * q[i];
      }
      std::memcpy(second, first, sizeof first);
    } else {
      float* by_rms = by_momentum + (kDecays + d) * kTile;
      for (int i = 0; i < kTile; ++i) {
        const float v = diag[d * kTile + i];
        first[i] = 1.0f / std::sqrt(std::fmax(v + 1e-9f, 1e-9f));
        second[i] = 1.0f / std::sqrt(v + 1e-6f);
        by_rms[i] = 1.0f / std::sqrt(v + 1e-8f);
      }
    }
    for (int i = 0; i < kTile; ++i) {
      by_mean[d * kTile + i] = mean[i] * first[i];
      by_momentum[d * kTile + i] = momentum[d * kTile + i] * second[i];
    }
  }
}

// Adds the tile's squares to sums [rows]; the padding after `count` does not count.
void add_squares(const float* x, int64_t rows, int count, double* sums) {
  for (int64_t f = 0; f < rows; ++f) {
    const float* row = x + f * kTile;
    float total = 0.0f;
    if (count == kTile) {
      Vector sum = load(row) * load(row);
      for (int v = 1; v < kVectors; ++v) sum += load(row + v * kLanes) * load(row + v * kLanes);
      for (int i = 0; i < kLanes; ++i) total += sum[i];
    } else {
      for (int i = 0; i < count; ++i) total += row[i] * row[i];
    }
    sums[f] += total;
  }
}

// sums [kUnits, kVectors] += w [units from `unit`, inputs]^T x [inputs, kTile]; w is [inputs, hidden].
inline void multiply(const float* w, int64_t hidden, int64_t inputs, const float* x, int unit,
                     Vector sums[kUnits][kVectors]) {
  for (int64_t f = 0; f < inputs; ++f) {
    const float* weights = w + f * hidden + unit;
    Vector in[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      in[v] = load(x + f * kTile + v * kLanes);
      keep(in[v]);
    }
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < kVectors; ++v) sums[u][v] += weights[u] * in[v];
  }
}

struct Network {
  const float *w0, *b0, *w1, *b1, *w2, *b2;
};

// What the statistics of rows and columns add to hidden units unit .. unit + kUnits of a tile.
void add_sides(const Tensor& t, const Run* runs, int run_count, int unit, float* hidden) {
  for (int u = 0; u < kUnits; ++u) {
    const float* along_p = t.along_p + (unit + u) * t.size_p();
    const float* along_q = t.along_q + (unit + u) * t.size_q();
    float* to = hidden + u * kTile;
    for (int r = 0; r < run_count; ++r) {
      const float p = along_p[runs[r].at_p];
      const float* q = along_q + runs[r].at_q;
      float* run = to + runs[r].start;
      for (int i = 0; i < runs[r].length; ++i) run[i] = p + q[i];
    }
  }
}

// out [2, kTile]: direction and magnitude of a tile. kHidden is t.hidden, or 0 for one not known in advance.
template <int64_t kHidden>
void apply(const Tensor& t, const Network& net, const float* x, const Run* runs, int run_count, float* first,
           float* out) {
  const int64_t hidden = kHidden ? kHidden : t.hidden;
  for (int unit = 0; unit < hidden; unit += kUnits) {
    Vector sums[kUnits][kVectors];
    float* block = first + unit * kTile;
    if (t.factored) {
      std::memset(block, 0, sizeof(float) * kUnits * kTile);
      add_sides(t, runs, run_count, unit, block);
    }
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < kVectors; ++v) {
        const Vector bias = Vector{} + net.b0[unit + u];
        sums[u][v] = t.factored ? bias + load(block + u * kTile + v * kLanes) : bias;
      }
    multiply(net.w0, hidden, t.rows(), x, unit, sums);
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < kVectors; ++v) store(block + u * kTile + v * kLanes, relu(sums[u][v]));
  }
  Vector answers[2][kVectors];
  for (int o = 0; o < 2; ++o)
    for (int v = 0; v < kVectors; ++v) answers[o][v] = Vector{} + net.b2[o];
  for (int unit = 0; unit < hidden; unit += kUnits) {
    Vector sums[kUnits][kVectors];
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < kVectors; ++v) sums[u][v] = Vector{} + net.b1[unit + u];
    multiply(net.w1, hidden, hidden, first, unit, sums);
    for (int u = 0; u < kUnits; ++u)
      for (int v = 0; v < kVectors; ++v)
        for (int o = 0; o < 2; ++o) answers[o][v] += net.w2[2 * (unit + u) + o] * relu(sums[u][v]);
  }
  for (int o = 0; o < 2; ++o)
    for (int v = 0; v < kVectors; ++v) store(out + o * kTile + v * kLanes, answers[o][v]);
}

// Memory for a tensor's step, used again for the next problem's.
struct Scratch {
  explicit Scratch(const Tensor& t)
      : x(t.rows() * kTile), units(t.hidden * kTile), weights(t.rows() * t.hidden), out(2 * kTile), sums(t.rows()) {}
  Buffer x, units, weights, out;
  std::vector<double> sums;
};

// step [n] = -scale * direction * exp(exponent * magnitude).
void tensor_step(const Tensor& t, const Network& given, float scale, float exponent, Scratch& scratch, float* step) {
  const int64_t rows = t.rows(), hidden = t.hidden;
  auto& [x, units, weights, out, sums] = scratch;
  std::fill(sums.begin(), sums.end(), 0.0);
  Run runs[kTile];
  for (int64_t offset = 0; offset < t.n; offset += kTile) {
    const int count = static_cast<int>(std::min<int64_t>(kTile, t.n - offset));
    const int run_count = t.factored ? runs_of(t.view, offset, count, runs) : 0;
    fill_rows(t, offset, count, runs, run_count, x.data());
    add_squares(x.data(), rows, count, sums.data());
  }
  for (int64_t f = 0; f < rows; ++f) {
    const float scaled = 1.0f / std::sqrt(1e-5f + static_cast<float>(sums[f] / t.n));
    for (int64_t h = 0; h < hidden; ++h) weights.data()[f * hidden + h] = given.w0[f * hidden + h] * scaled;
  }
  const Network net = {weights.data(), given.b0, given.w1, given.b1, given.w2, given.b2};
  for (int64_t offset = 0; offset < t.n; offset += kTile) {
    const int count = static_cast<int>(std::min<int64_t>(kTile, t.n - offset));
    const int run_count = t.factored ? runs_of(t.view, offset, count, runs) : 0;
    fill_rows(t, offset, count, runs, run_count, x.data());
    const auto run = hidden == 32 ? apply<32> : apply<0>;
    run(t, net, x.data(), runs, run_count, units.data(), out.data());
    for (int v = 0; v < kVectors; ++v) {
      float* answer = out.data() + v * kLanes;
      const Vector direction = load(answer), magnitude = load(answer + kTile);
      store(answer, -scale * direction * exponential(exponent * magnitude));
    }
    std::memcpy(step + offset, out.data(), sizeof(float) * count);
  }
}

using F32 = ffi::Buffer<ffi::F32>;

// The number of elements behind the leading batch dimensions, of which there are as many as before [n] in `param`.
int64_t inner(const F32& x, size_t batch_rank) {
  int64_t size = 1;
  for (size_t d = batch_rank; d < x.dimensions().size(); ++d) size *= x.dimensions()[d];
  return size;
}

ffi::Error Step(F32 deltas, F32 param, F32 mean, F32 momentum, F32 rms, F32 diag, F32 factor_p, F32 factor_q,
                F32 along_p, F32 along_q, F32 w0, F32 b0, F32 w1, F32 b1, F32 w2, F32 b2, F32 output,
                ffi::ResultBuffer<ffi::F32> step, int64_t a, int64_t p, int64_t b, int64_t q, bool factored) {
  const size_t batch_rank = param.dimensions().size() - 1;
  int64_t batch = 1;
  for (size_t d = 0; d < batch_rank; ++d) batch *= param.dimensions()[d];
  Tensor t;
  t.n = param.dimensions()[batch_rank];
  t.deltas_count = deltas.dimensions()[batch_rank];
  t.hidden = b0.dimensions()[batch_rank];
  t.factored = factored;
  t.view = {a, p, b, q};
  if (t.hidden % kUnits) return ffi::Error::InvalidArgument("the hidden size must be a multiple of 4");
  if (w0.dimensions()[batch_rank] != t.rows() || a * p * b * q != t.n)
    return ffi::Error::InvalidArgument("shapes do not fit");
  auto at = [&](const F32& x, int64_t i) { return x.typed_data() + i * inner(x, batch_rank); };
  Scratch scratch(t);
  for (int64_t i = 0; i < batch; ++i) {
    t.deltas = at(deltas, i), t.param = at(param, i), t.mean = at(mean, i), t.momentum = at(momentum, i);
    t.rms = at(rms, i), t.diag = at(diag, i), t.factor_p = at(factor_p, i), t.factor_q = at(factor_q, i);
    t.along_p = at(along_p, i), t.along_q = at(along_q, i);
    const Network net = {at(w0, i), at(b0, i), at(w1, i), at(b1, i), at(w2, i), at(b2, i)};
    const float* sizes = at(output, i);
    tensor_step(t, net, sizes[0], sizes[1], scratch, step->typed_data() + i * t.n);
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
