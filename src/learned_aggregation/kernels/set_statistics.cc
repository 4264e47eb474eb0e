// What fedlagg-set reads of one tensor, in one pass over its deltas: statistics over the clients, the new history, and
// the sums over the tensor that features and scalars are normalised with. See learned/set_features.py.
//
// A tile of parameters is read of every client in turn and put side by side: read again where they lie, for the
// deviations from the mean, many clients' would have driven each other from the cache. The rest is done in registers. Sums of squares are of one lane over a block, then in double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "operands.h"
#include "vectors.h"
#include "views.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

constexpr int kVectors = kManyRegisters ? 8 : 4;
constexpr int kTile = kLanes * kVectors;
constexpr int kLine = 16;    // floats of a cache line
constexpr int kAhead = 256;  // floats to what is asked for: about the time that memory takes
constexpr int64_t kBlock = 64 * kTile;  // a lane's sum over it is exact enough
constexpr int kMomenta = 3;

// The sums over the tensor, in the order of the fields of kernels/set_step.py's Sums.
enum Sum {
  kMean2, kLast2, kMeanLast, kSpread2, kParam2, kMeanRoot2, kSlowRoot2, kRatio2, kDelta2,
  kMomentum2, kOld2 = kMomentum2 + kMomenta, kMeanOld = kOld2 + kMomenta, kSums = kMeanOld + kMomenta
};

// What a tile reads and writes, from its first parameter on; the deltas of client k are `stride` times k further.
struct Rows {
  const float *deltas, *param, *last, *momentum[kMomenta], *second, *velocity;
  float *mean, *spread, *sign, *new_momentum[kMomenta], *new_second, *new_velocity;
  int64_t stride;
};

// The clients that are here, by their index and share; absent: 0, or NaN where a share is none.
struct Clients {
  Clients(const float* share, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      if (share[k] > 0.0f)
        index.push_back(k), shares.push_back(share[k]);
      else
        absent += 0.0f * share[k];
    }
  }
  std::vector<int64_t> index;
  std::vector<float> shares;
  float absent = 0.0f;
};

// decays: of the momenta, the second moment, and the base's velocity.
struct Constants {
  const float* decays;
  float tiny, least, largest;
};

// What is not a number stays so.
inline Vector within(const Vector& x, float largest) {
  const Vector bound = Vector{} + largest;
  const Vector low = x > bound ? bound : x;
  return low < -bound ? -bound : low;
}

// Has the memory of a later tile brought near: the processor does not see by itself what K clients' tiles come next.
template <int V>
inline void ask_for(const float* row) {
  for (int i = 0; i < V * kLanes; i += kLine) __builtin_prefetch(row + kAhead + i);
}

// The first `count` parameters of the rows; all of the tile's vectors are computed.
template <int V>
[[gnu::always_inline]] inline void tile(const Rows& r, const Clients& clients, const Constants& c, int64_t count,
                                        float* side_by_side, Vector* sums) {
  Vector mean[V], sign[V], square[V], variance[V];
  for (int v = 0; v < V; ++v) mean[v] = Vector{} + clients.absent, sign[v] = square[v] = variance[v] = Vector{};
  const size_t here = clients.index.size();
  for (size_t k = 0; k < here; ++k) {
    const float* delta = r.deltas + clients.index[k] * r.stride;
    const Vector share = Vector{} + clients.shares[k];
    ask_for<V>(delta);
    for (int v = 0; v < V; ++v) {
      const Vector d = within(load(delta + v * kLanes), c.largest), part = share * d;
      store(side_by_side + (k * V + v) * kLanes, d);
      mean[v] += part;
      square[v] += part * d;
      sign[v] += d > 0.0f ? share : Vector{};
      sign[v] -= d < 0.0f ? share : Vector{};
    }
  }
  for (size_t k = 0; k < here; ++k) {
    const float share = clients.shares[k];
    for (int v = 0; v < V; ++v) {
      const Vector off = load(side_by_side + (k * V + v) * kLanes) - mean[v];
      variance[v] += share * (off * off);
    }
  }
  for (const float* row : {r.param, r.last, r.momentum[0], r.momentum[1], r.momentum[2], r.second}) ask_for<V>(row);
  for (int v = 0; v < V; ++v) {
    const int64_t at = v * kLanes;
    const Vector g = mean[v], last = load(r.last + at), param = load(r.param + at);
    const Vector noise = variance[v] + c.tiny, spread = root(noise), below = spread + c.least;
    const Vector second = c.decays[kMomenta] * load(r.second + at) + (1.0f - c.decays[kMomenta]) * (g * g);
    Vector momentum[kMomenta];
    for (int m = 0; m < kMomenta; ++m) {
      const Vector old = load(r.momentum[m] + at);
      momentum[m] = c.decays[m] * old + (1.0f - c.decays[m]) * g;
      sums[kMomentum2 + m] += momentum[m] * momentum[m];
      sums[kOld2 + m] += old * old;
      sums[kMeanOld + m] += g * old;
    }
    if (r.velocity) store(r.new_velocity + at, c.decays[kMomenta + 1] * load(r.velocity + at) + g);
    for (int m = 0; m < kMomenta; ++m) store(r.new_momentum[m] + at, momentum[m]);
    store(r.new_second + at, second);
    store(r.mean + at, g);
    store(r.spread + at, spread);
    store(r.sign + at, sign[v]);
    const Vector inverse = 1.0f / (second + c.tiny), slow = momentum[1];
    sums[kMean2] += g * g;
    sums[kLast2] += last * last;
    sums[kMeanLast] += g * last;
    Vector within = noise;
    for (int i = 0; at + kLanes > count && i < kLanes; ++i) within[i] = at + i < count ? within[i] : 0.0f;
    sums[kSpread2] += within;
    sums[kParam2] += param * param;
    sums[kMeanRoot2] += g * g * inverse;
    sums[kSlowRoot2] += slow * slow * inverse;
    sums[kRatio2] += (g / below) * (g / below);
    sums[kDelta2] += square[v];
  }
}

// One tensor of n parameters; K clients.
struct Tensor {
  int64_t n, clients;
  Rows rows;
  float *along_p, *along_q, *sums;
};

// Room for a tile's deltas, and for rows of the last parameters, fewer than a tile.
class Room {
 public:
  explicit Room(int64_t clients) : clients_(clients), buffer_((clients + kRows) * kTile), deltas_(clients * kTile) {}

  float* deltas() { return deltas_.data(); }

  void run_rest(const Rows& whole, int64_t offset, int64_t count, const Clients& clients, const Constants& c, Vector* sums) {
    float* data = buffer_.data();
    std::fill(data, data + (clients_ + kRows) * kTile, 0.0f);
    float* next = data;
    auto take = [&](const float* from) {
      std::copy(from + offset, from + offset + count, next);
      next += kTile;
      return next - kTile;
    };
    Rows r = whole;
    r.deltas = data;
    r.stride = kTile;
    for (int64_t k = 0; k < clients_; ++k) take(whole.deltas + k * whole.stride);
    r.param = take(whole.param);
    r.last = r.mean = take(whole.last);
    for (int m = 0; m < kMomenta; ++m) r.momentum[m] = r.new_momentum[m] = take(whole.momentum[m]);
    r.second = r.new_second = take(whole.second);
    if (whole.velocity) r.velocity = r.new_velocity = take(whole.velocity);
    r.spread = next;
    r.sign = next + kTile;
    if (count <= kLanes)
      tile<1>(r, clients, c, count, deltas(), sums);
    else if (count <= 2 * kLanes)
      tile<2>(r, clients, c, count, deltas(), sums);
    else
      tile<kVectors>(r, clients, c, count, deltas(), sums);
    auto give = [&](const float* from, float* to) { std::copy(from, from + count, to + offset); };
    give(r.mean, whole.mean);
    give(r.spread, whole.spread);
    give(r.sign, whole.sign);
    for (int m = 0; m < kMomenta; ++m) give(r.new_momentum[m], whole.new_momentum[m]);
    give(r.new_second, whole.new_second);
    if (whole.velocity) give(r.new_velocity, whole.new_velocity);
  }

 private:
  static constexpr int kRows = 6 + 2 + kMomenta;
  int64_t clients_;
  Buffer buffer_, deltas_;
};

Rows at(Rows r, int64_t offset) {
  for (const float** row : {&r.deltas, &r.param, &r.last, &r.second}) *row += offset;
  for (float** row : {&r.mean, &r.spread, &r.sign, &r.new_second}) *row += offset;
  for (int m = 0; m < kMomenta; ++m) r.momentum[m] += offset, r.new_momentum[m] += offset;
  if (r.velocity) r.velocity += offset, r.new_velocity += offset;
  return r;
}

void statistics(const Tensor& t, const View* view, const Clients& clients, const Constants& c, Room& room) {
  double sums[kSums] = {};
  std::vector<SquaresAlong> along;
  if (view) along.emplace_back(*view, t.along_p, t.along_q);
  for (int64_t start = 0; start < t.n; start += kBlock) {
    const int64_t end = std::min(start + kBlock, t.n);
    Vector of_block[kSums] = {};
    int64_t offset = start;
    for (; offset + kTile <= end; offset += kTile)
      tile<kVectors>(at(t.rows, offset), clients, c, kTile, room.deltas(), of_block);
    if (offset < end) room.run_rest(t.rows, offset, end - offset, clients, c, of_block);
    for (int i = 0; i < kSums; ++i) sums[i] += total(of_block[i]);
    if (view) along[0].add(t.rows.mean + start, start, end - start);
  }
  for (int i = 0; i < kSums; ++i) t.sums[i] = static_cast<float>(sums[i]);
}

ffi::Error Statistics(F32 deltas, F32 share, F32 param, F32 decays, F32 last, F32 momentum, F32 second, F32 velocity,
                      Out mean, Out new_momentum, Out new_second, Out new_velocity, Out spread, Out sign, Out along_p,
                      Out along_q, Out sums, int64_t a, int64_t p, int64_t b, int64_t q, int64_t c, bool factored,
                      float tiny, float least, float largest) {
  const Batch batch(param, 1);
  const int64_t n = batch.dimension(param, 0), clients = batch.dimension(share, 0);
  const View view = {a, p, b, q, c};
  if (view.size() != n || batch.dimension(momentum, 0) != kMomenta || batch.dimension(*sums, 0) != kSums)
    return ffi::Error::InvalidArgument("shapes do not fit");
  const bool moves = n > 0 && batch.dimension(velocity, 0) == n;
  Room room(clients);
  for (int64_t i = 0; i < batch.size; ++i) {
    auto at = [&](const F32& x) { return batch.at(x, i); };
    auto to = [&](Out& x) { return batch.at(*x, i); };
    Tensor t = {n, clients, {at(deltas), at(param), at(last)}, to(along_p), to(along_q), to(sums)};
    Rows& r = t.rows;
    r.stride = n;
    for (int m = 0; m < kMomenta; ++m) r.momentum[m] = at(momentum) + m * n, r.new_momentum[m] = to(new_momentum) + m * n;
    r.second = at(second), r.new_second = to(new_second);
    r.velocity = moves ? at(velocity) : nullptr, r.new_velocity = moves ? to(new_velocity) : nullptr;
    r.mean = to(mean), r.spread = to(spread), r.sign = to(sign);
    statistics(t, factored ? &view : nullptr, Clients(at(share), clients), {at(decays), tiny, least, largest}, room);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(SetStatistics, Statistics,
                              ffi::Ffi::Bind()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                                  .Ret<F32>().Ret<F32>().Ret<F32>().Ret<F32>()
                                  .Attr<int64_t>("a").Attr<int64_t>("p").Attr<int64_t>("b").Attr<int64_t>("q")
                                  .Attr<int64_t>("c").Attr<bool>("factored")
                                  .Attr<float>("tiny").Attr<float>("least").Attr<float>("largest"));
