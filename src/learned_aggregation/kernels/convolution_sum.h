// The sum over a window's taps of inputs times matrices: a convolution's output, and the gradient of its images.

#ifndef LEARNED_AGGREGATION_CONVOLUTION_SUM_H_
#define LEARNED_AGGREGATION_CONVOLUTION_SUM_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "taps.h"
#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller

// Of a tile of sums in registers: pixels (or channels in), vectors of channels out.
template <int kFloats, int kVectors>
struct Wide {
  static constexpr int kLanes = kFloats, kWide = kVectors, kColumns = kLanes * kWide;
  static constexpr int kTile = kManyRegisters || kWide == 1 ? 8 : 6;
  // Not a parameter of the template: there its alignment would be forgotten.
  typedef float Vector __attribute__((vector_size(kFloats * sizeof(float)), aligned(4), may_alias));

  // The first `count` floats of x, zeros behind them.
  static Vector load(const float* x, int64_t count) {
    Vector v = {};
    if (count >= kLanes) return *reinterpret_cast<const Vector*>(x);
    std::memcpy(&v, x, sizeof(float) * std::max<int64_t>(count, 0));
    return v;
  }

  static void store(float* x, Vector v, int64_t count) {
    if (count >= kLanes)
      *reinterpret_cast<Vector*>(x) = v;
    else
      std::memcpy(x, &v, sizeof(float) * std::max<int64_t>(count, 0));
  }
};

// does(the narrowest tile that holds so many channels out): lanes without a channel would work for nothing.
template <typename Does>
void with_width(int64_t channels, const Does& does) {
  constexpr int kHalf = kLanes == 16 ? 8 : kLanes;  // of the widest registers
  if (channels <= kHalf)
    does(Wide<kHalf, 1>{});
  else if (channels <= kLanes)
    does(Wide<kLanes, 1>{});
  else
    does(Wide<kLanes, 2>{});
}

// Bytes: of the matrices that are read for many pixels one after another, and of the images that are read for each of
// these in turn. Both lie in a core's second cache: matrices that fit the first one make sums go to memory and back so
// often that it costs more than the way from the second (5 % at 64 to 256 channels).
constexpr int64_t kMatrices = 96 << 10, kImages = 256 << 10;

// local [R, kWide] += at[r][c] times the vectors of `matrix`, one row of it.
template <typename W, int R>
[[gnu::always_inline]] inline void add_row(const float* const* at, int64_t c, const float* matrix,
                                           typename W::Vector local[][W::kWide]) {
  typename W::Vector right[W::kWide];
  for (int v = 0; v < W::kWide; ++v) {
    right[v] = *reinterpret_cast<const typename W::Vector*>(matrix + v * W::kLanes);
    keep(right[v]);
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < W::kWide; ++v) local[r][v] += at[r][c] * right[v];
}

// local += at[r][begin ...] [inner] times matrix [inner, kColumns]; two rows at a time: in a template GCC leaves
// a loop as it is where a pragma asks for it.
template <typename W, int R>
[[gnu::always_inline]] inline void add_rows(const float* const* at, int64_t begin, int64_t inner, const float* matrix,
                                            typename W::Vector local[][W::kWide]) {
  int64_t c = begin;
  for (; c + 2 <= begin + inner; c += 2, matrix += 2 * W::kColumns) {
    add_row<W, R>(at, c, matrix, local);
    add_row<W, R>(at, c + 1, matrix + W::kColumns, local);
  }
  if (c < begin + inner) add_row<W, R>(at, c, matrix, local);
}

// A tap of a tile: where its inputs lie after its rows' beginnings, and its matrix [inner, kColumns].
struct Tap {
  int64_t offset;
  const float* matrix;
};

// Functions of their own keep the sums in registers: inlined, GCC puts them on the stack.
// sums [R, kWide] += in[r] [inner] from the tap's offset on, times its matrix, for all taps.
template <typename W, int R>
__attribute__((noinline)) void accumulate(const float* const* in, const Tap* tap, int64_t taps, int64_t inner,
                                          typename W::Vector sums[][W::kWide]) {
  const float* at[R];
  typename W::Vector local[R][W::kWide] = {};
  for (int r = 0; r < R; ++r) at[r] = in[r];
  for (const Tap* end = tap + taps; tap != end; ++tap) add_rows<W, R>(at, tap->offset, inner, tap->matrix, local);
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < W::kWide; ++v) sums[r][v] += local[r][v];
}

// does(an integral_constant of the number of rows, which is at most a tile's).
template <int... R, typename Does>
inline void with_rows(std::integer_sequence<int, R...>, int64_t rows, const Does& does) {
  ((rows == R + 1 ? does(std::integral_constant<int, R + 1>{}) : void()), ...);
}
template <typename W, typename Does>
inline void with_rows(int64_t rows, const Does& does) {
  with_rows(std::make_integer_sequence<int, W::kTile>{}, rows, does);
}

// Part of the window's sum: some taps and some channels, whose matrices are at most kMatrices bytes.
struct Part {
  int64_t tap, end_tap, channel, end_channel;
};

// out[image, pixel, :] = sum over taps of in[image, tap's pixel, :] times the tap's matrix [inner, outer].
template <typename W>
class Sum {
 public:
  Sum(int64_t images, int64_t in_image, int64_t inner, int64_t outer, const Taps& taps)
      : images_(images), in_image_(in_image), inner_(inner), outer_(outer), taps_(taps), zeros_(inner) {
    const int64_t most = std::max<int64_t>(kMatrices / (W::kColumns * static_cast<int64_t>(sizeof(float))), 1);
    const int64_t channels = (inner + (inner + most - 1) / most - 1) / ((inner + most - 1) / most);
    const int64_t together = std::max<int64_t>(1, most / inner);
    for (int64_t c = 0; c < inner; c += channels)
      for (int64_t t = 0; t < taps.taps; t += together)
        parts_.push_back({t, std::min(t + together, taps.taps), c, std::min(c + channels, inner)});
  }

  // matrices: [outer / kColumns, taps, inner, kColumns].
  void run(const float* in, const float* matrices, float* out) {
    // Small images side by side: their pixels at one place have the same taps inside.
    const bool across = taps_.pixels <= 2 * W::kTile;
    const int64_t at_once = std::max<int64_t>(1, kImages / (in_image_ * static_cast<int64_t>(sizeof(float))));
    const int64_t block = across ? (at_once + W::kTile - 1) / W::kTile * W::kTile : at_once;
    for (int64_t first = 0; first < images_; first += block) {
      const int64_t count = std::min(block, images_ - first);
      const int64_t tiles =
          across ? (count + W::kTile - 1) / W::kTile * taps_.pixels : count * tiles_of_image();
      for (int64_t column = 0; column < outer_; column += W::kColumns) {
        started_.assign(tiles, 0);
        for (size_t p = 0; p < parts_.size(); ++p)
          for (int64_t t = 0; t < tiles; ++t) {
            const float* panel = matrices + column / W::kColumns * taps_.taps * inner_ * W::kColumns;
            const Tile at = place(across, first, count, t);
            tile(at, in + at.image * in_image_, panel, parts_[p],
                 out + (at.image * taps_.pixels + at.pixel) * outer_ + column, outer_ - column,
                 p + 1 == parts_.size(), started_[t]);
          }
      }
    }
  }

 private:
  using V = typename W::Vector;
  // Rows that are one pixel of images side by side, or pixels of one image.
  struct Tile {
    int64_t image, pixel, next_image;
    int rows;
  };

  int64_t tiles_of_image() const { return (taps_.pixels + W::kTile - 1) / W::kTile; }

  Tile place(bool across, int64_t first, int64_t count, int64_t t) const {
    if (across) {
      const int64_t image = first + t / taps_.pixels * W::kTile;
      return {image, t % taps_.pixels, 1, static_cast<int>(std::min<int64_t>(W::kTile, first + count - image))};
    }
    const int64_t pixel = t % tiles_of_image() * W::kTile;
    return {first + t / tiles_of_image(), pixel, 0,
            static_cast<int>(std::min<int64_t>(W::kTile, taps_.pixels - pixel))};
  }

  void tile(const Tile& at, const float* from, const float* panel, const Part& part, float* to, int64_t left,
            bool last, char& started) {
    const int64_t step = at.next_image ? taps_.pixels * outer_ : outer_;
    V sums[W::kTile][W::kWide] = {};
    if (started)
      for (int r = 0; r < at.rows; ++r)
        for (int v = 0; v < W::kWide; ++v)
          sums[r][v] = W::load(to + r * step + v * W::kLanes, left - v * W::kLanes);
    const bool any = at.next_image ? sum_across(at, from, panel, part, sums) : sum_along(at, from, panel, part, sums);
    if (!any && !(last && !started)) return;
    for (int r = 0; r < at.rows; ++r)
      for (int v = 0; v < W::kWide; ++v)
        W::store(to + r * step + v * W::kLanes, sums[r][v], left - v * W::kLanes);
    started = 1;
  }

  const float* matrix(const float* panel, const Part& part, int64_t tap) const {
    return panel + (tap * inner_ + part.channel) * W::kColumns;
  }

  // One pixel of many images: a tap is inside for all rows or for none. Whether it is for any tap.
  bool sum_across(const Tile& at, const float* from, const float* panel, const Part& part, V sums[][W::kWide]) {
    inside_.clear();
    for (int64_t tap = part.tap; tap < part.end_tap; ++tap)
      if (const int32_t offset = taps_.at(at.pixel, tap); offset >= 0)
        inside_.push_back({offset + part.channel, matrix(panel, part, tap)});
    const float* rows[W::kTile];
    for (int r = 0; r < at.rows; ++r) rows[r] = from + r * in_image_;
    with_rows<W>(at.rows, [&](auto number) {
      accumulate<W, number>(rows, inside_.data(), inside_.size(), part.end_channel - part.channel, sums);
    });
    return !inside_.empty();
  }

  // Many pixels of one image: rows that a tap is outside of add zeros.
  bool sum_along(const Tile& at, const float* from, const float* panel, const Part& part, V sums[][W::kWide]) {
    bool found = false;
    for (int64_t tap = part.tap; tap < part.end_tap; ++tap) {
      const float* rows[W::kTile];
      bool any = false;
      for (int r = 0; r < at.rows; ++r) {
        const int32_t offset = taps_.at(at.pixel + r, tap);
        any |= offset >= 0;
        rows[r] = offset >= 0 ? from + offset + part.channel : zeros_.data();
      }
      if (!any) continue;
      const Tap one = {0, matrix(panel, part, tap)};
      with_rows<W>(at.rows, [&](auto number) {
        accumulate<W, number>(rows, &one, 1, part.end_channel - part.channel, sums);
      });
      found = true;
    }
    return found;
  }

  const int64_t images_, in_image_, inner_, outer_;
  const Taps& taps_;
  const std::vector<float> zeros_;
  std::vector<Part> parts_;
  std::vector<Tap> inside_;
  std::vector<char> started_;
};

// Room for a kernel's matrices [outer / kColumns, taps, inner, kColumns], zeros at first.
template <typename W>
Buffer panels_of(const Taps& taps, int64_t inner, int64_t outer) {
  return Buffer((outer + W::kColumns - 1) / W::kColumns * taps.taps * inner * W::kColumns);
}

// kernel [window, channels in, channels out] -> to, columns beyond `outer` as they were; turned: inner and outer are the
// channels out and in.
template <typename W>
void fill_panels(const float* kernel, const Taps& taps, int64_t inner, int64_t outer, bool turned, float* to) {
  const int64_t panels = (outer + W::kColumns - 1) / W::kColumns;
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t t = 0; t < taps.taps; ++t, to += inner * W::kColumns) {
      const float* from = kernel + taps.place[t] * inner * outer;
      const int64_t column = panel * W::kColumns, width = std::min<int64_t>(W::kColumns, outer - column);
      if (turned) {
        for (int64_t i = 0; i < inner; i += kLanes)
          for (int64_t j = 0; j < width; ++j)
            for (int64_t n = i; n < std::min<int64_t>(i + kLanes, inner); ++n)
              to[n * W::kColumns + j] = from[(column + j) * inner + n];
      } else {
        for (int64_t i = 0; i < inner; ++i)
          std::memcpy(to + i * W::kColumns, from + i * outer + column, sizeof(float) * width);
      }
    }
}

}  // namespace
}  // namespace learned_aggregation

#endif
