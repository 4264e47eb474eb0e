// What the kernels share: vectors of floats as wide as the processor's registers, and buffers of them.

#ifndef LEARNED_AGGREGATION_VECTORS_H_
#define LEARNED_AGGREGATION_VECTORS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace learned_aggregation {

// Lanes of a register, and whether there are 32 registers and not 16.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr bool kManyRegisters = true;
#elif defined(__AVX__)
constexpr int kLanes = 8;
constexpr bool kManyRegisters = false;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr bool kManyRegisters = true;
#else
constexpr int kLanes = 4;
constexpr bool kManyRegisters = false;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Vector load(const float* x) { return *reinterpret_cast<const Vector*>(x); }
// The first `count` floats of x, zeros behind them.
inline Vector load_up_to(const float* x, int64_t count) {
  if (count >= kLanes) return load(x);
  Vector found = {};
  for (int64_t i = 0; i < count; ++i) found[i] = x[i];
  return found;
}
inline void store(float* x, Vector v) { *reinterpret_cast<Vector*>(x) = v; }
inline Vector relu(Vector v) {
  // A NaN stays one, as in jax.nn.relu.
  return (Vector)(((Ints)v) & ~((Ints)(v <= 0.0f)));
}

// x within [-bound, bound]; a NaN stays one.
inline Vector clip(Vector x, float bound) {
  const Vector most = Vector{} + bound, least = Vector{} - bound;
  x = most < x ? most : x;
  return least > x ? least : x;
}

// Keeps a vector in a register: GCC would load it again for each of its uses.
template <typename V>
inline void keep(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__AVX__)
  asm("" : "+x"(v));
#endif
}

// does(the V vectors from x on), kept in registers. An array of them would be written to memory.
template <typename Does, size_t... v>
[[gnu::always_inline]] inline void with_loaded(const float* x, const Does& does, std::index_sequence<v...>) {
  [&](auto... in) __attribute__((always_inline)) {
    (keep(in), ...);
    does(in...);
  }(load(x + v * kLanes)...);
}
template <int V, typename Does>
[[gnu::always_inline]] inline void with_loaded(const float* x, const Does& does) {
  with_loaded(x, does, std::make_index_sequence<V>{});
}

// sums [V] += a * each of `in`.
template <typename... In>
[[gnu::always_inline]] inline void add_products(Vector* sums, float a, In... in) {
  ((*sums++ += a * in), ...);
}

// exp(x) to one unit or so in the last place: 2^n * p(r), r in [-ln 2 / 2, ln 2 / 2]. NaN stays NaN.
inline Vector exponential(Vector x) {
  const Vector bounded = x > 88.7f ? Vector{} + 88.7f : x < -87.3f ? Vector{} - 87.3f : x;
  const Vector shift = Vector{} + 12582912.0f;  // 1.5 * 2^23: adding and taking it away rounds to whole numbers
  const Vector n = (bounded * 1.44269504f + shift) - shift;
  const Vector r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = Vector{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Vector power = (Vector)((__builtin_convertvector(n, Ints) + 127) << 23);
  return x != x ? x : p * power;
}

// tanh(x) to a few units in the last place: odd over even polynomial, of Eigen's and XLA's. NaN stays NaN.
inline Vector hyperbolic_tangent(Vector x) {
  x = clip(x, 7.90531110763549805f);
  const Vector square = x * x;
  Vector over = Vector{} - 2.76076847742355e-16f;
  for (float c : {2.00018790482477e-13f, -8.60467152213735e-11f, 5.12229709037114e-08f, 1.48572235717979e-05f,
                  6.37261928875436e-04f, 4.89352455891786e-03f})
    over = over * square + c;
  Vector under = Vector{} + 1.19825839466702e-06f;
  for (float c : {1.18534705686654e-04f, 2.26843463243900e-03f, 4.89352518554385e-03f}) under = under * square + c;
  return x * over / under;
}

inline Vector root(Vector x) {
  for (int i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
}
inline Vector inverse_root(Vector x) {
  for (int i = 0; i < kLanes; ++i) x[i] = 1.0f / std::sqrt(x[i]);
  return x;
}

// The sum of the lanes.
inline double total(Vector x) {
  double sum = 0.0;
  for (int i = 0; i < kLanes; ++i) sum += x[i];
  return sum;
}

// Floats on cache lines of their own, zeros at first: a vector across two lines costs twice.
class Buffer {
 public:
  explicit Buffer(int64_t size) : lines_((size + kFloats - 1) / kFloats) {}
  float* data() { return lines_[0].values; }

 private:
  static constexpr int64_t kFloats = 16;
  // Whole: what lay between the floats of a shorter one would be padding, which nobody sets to zero.
  struct alignas(64) Line {
    float values[kFloats];
  };
  std::vector<Line> lines_;
};

}  // namespace learned_aggregation

#endif
