// The gradient of a convolution's kernel.

#ifndef LEARNED_AGGREGATION_CONVOLUTION_GRADIENT_H_
#define LEARNED_AGGREGATION_CONVOLUTION_GRADIENT_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "convolution_sum.h"
#include "taps.h"
#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller

// The pixels whose gradients are summed before the sum goes to memory.
constexpr int64_t kSummed = 192;

// The gradient of the kernel: dk[tap, c, d] = sum over images and pixels of x[tap's pixel, c] * dy[pixel, d].
template <typename W>
class KernelGradient {
 public:
  KernelGradient(int64_t window, int64_t images, int64_t in_image, int64_t channels, int64_t out_channels,
                 const Taps& taps)
      : window_(window), images_(images), in_image_(in_image), channels_(channels), out_channels_(out_channels),
        taps_(taps), together_(std::max<int64_t>(1, kSummed / taps.pixels)), pieces_(pieces_of(taps, together_)),
        panel_(together_ * pieces_[0].pixels() * W::kColumns) {}

  // above: [images, pixels, out_channels]; out: [window, channels, out_channels].
  void run(const float* in, const float* above, float* out) {
    std::memset(out, 0, sizeof(float) * window_ * channels_ * out_channels_);
    for (const Piece& piece : pieces_)
      for (int64_t image = 0; image < images_; image += together_) {
        const int64_t count = std::min(together_, images_ - image);
        for (int64_t column = 0; column < out_channels_; column += W::kColumns) {
          take(above, image, count, piece, column);
          for (int64_t t = 0; t < taps_.taps; ++t)
            for (int64_t c = 0; !piece.from[t].empty() && c < channels_; c += W::kTile)
              rows(std::make_integer_sequence<int, W::kTile>{}, std::min<int64_t>(W::kTile, channels_ - c),
                   in + image * in_image_ + c, count, piece, t,
                   out + (taps_.place[t] * channels_ + c) * out_channels_ + column, out_channels_ - column);
        }
      }
  }

 private:
  using V = typename W::Vector;
  // Some pixels of an image; of each tap those of them that are inside: where they lie in the input, and in the panel.
  struct Piece {
    int64_t begin, end;
    std::vector<std::vector<int32_t>> from, row;
    int64_t pixels() const { return end - begin; }
  };

  // Blocks of whole images where they are small, of one image's pixels where they are large.
  static std::vector<Piece> pieces_of(const Taps& taps, int64_t together) {
    const int64_t count = together > 1 ? 1 : (taps.pixels + kSummed - 1) / kSummed;
    const int64_t size = (taps.pixels + count - 1) / count;
    std::vector<Piece> made;
    for (int64_t begin = 0; begin < taps.pixels; begin += size) {
      Piece piece = {begin, std::min(begin + size, taps.pixels), {}, {}};
      piece.from.resize(taps.taps), piece.row.resize(taps.taps);
      for (int64_t t = 0; t < taps.taps; ++t)
        for (int64_t p = begin; p < piece.end; ++p) {
          if (taps.at(p, t) < 0) continue;
          piece.from[t].push_back(taps.at(p, t));
          piece.row[t].push_back(static_cast<int32_t>((p - begin) * W::kColumns));
        }
      made.push_back(std::move(piece));
    }
    return made;
  }

  void take(const float* above, int64_t image, int64_t count, const Piece& piece, int64_t column) {
    const int64_t width = std::min<int64_t>(W::kColumns, out_channels_ - column);
    float* to = panel_.data();
    for (int64_t b = 0; b < count; ++b)
      for (int64_t p = piece.begin; p < piece.end; ++p, to += W::kColumns)
        std::memcpy(to, above + ((image + b) * taps_.pixels + p) * out_channels_ + column, sizeof(float) * width);
  }

  template <int R>
  void add(const float* x, int64_t count, const Piece& piece, int64_t t, float* to, int64_t left) {
    V sums[R][W::kWide];
    sum<R>(x, in_image_, panel_.data(), piece.pixels() * W::kColumns, count, piece.from[t].data(),
           piece.row[t].data(), piece.from[t].size(), sums);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < W::kWide; ++v) {
        float* w = to + r * out_channels_ + v * W::kLanes;
        W::store(w, W::load(w, left - v * W::kLanes) + sums[r][v], left - v * W::kLanes);
      }
  }

  template <int R>
  __attribute__((noinline)) static void sum(const float* x, int64_t next_x, const float* panel, int64_t next_panel,
                                            int64_t count, const int32_t* from, const int32_t* row, int64_t pixels,
                                            V sums[][W::kWide]) {
    V local[R][W::kWide];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < W::kWide; ++v) local[r][v] = V{};
    for (int64_t image = 0; image < count; ++image, x += next_x, panel += next_panel)
      for (int64_t p = 0; p < pixels; ++p) {
        const float* a = x + from[p];
        const float* b = panel + row[p];
        V right[W::kWide];
        for (int v = 0; v < W::kWide; ++v) {
          right[v] = *reinterpret_cast<const V*>(b + v * W::kLanes);
          keep(right[v]);
        }
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < W::kWide; ++v) local[r][v] += a[r] * right[v];
      }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < W::kWide; ++v) sums[r][v] = local[r][v];
  }

  // Not with_rows: what it calls is compiled to slower code here (1.2 to 1.5 times on images of 4 x 4).
  template <int... R>
  void rows(std::integer_sequence<int, R...>, int64_t number, const float* x, int64_t count, const Piece& piece,
            int64_t t, float* to, int64_t left) {
    ((number == R + 1 ? add<R + 1>(x, count, piece, t, to, left) : void()), ...);
  }

  const int64_t window_, images_, in_image_, channels_, out_channels_;
  const Taps& taps_;
  const int64_t together_;
  const std::vector<Piece> pieces_;
  Buffer panel_;
};

}  // namespace
}  // namespace learned_aggregation

#endif
