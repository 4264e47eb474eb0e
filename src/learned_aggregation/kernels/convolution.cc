// Convolutions of images whose channels are their last axis: the output, and the gradients of both operands.
//
// The output at a pixel is a sum over the window's taps of an input pixel times a matrix [channels in, channels out].
// No patches are written: a tile of pixels reads its inputs where they lie, and a tap that falls outside of the image
// costs nothing where the whole tile's does. The gradient of the images is the same sum with the matrices transposed.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "taps.h"
#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

// Of a tile of sums in registers: pixels (or channels in), vectors of channels out.
constexpr int kTile = kManyRegisters ? 8 : 6, kWide = 2, kColumns = kWide * kLanes;
// Bytes: of the matrices that are read for many pixels one after another, and of the images that are read for each of
// these in turn. Both lie in a core's second cache: matrices that fit the first one make sums go to memory and back so
// often that it costs more than the way from the second (5 % at 64 to 256 channels).
constexpr int64_t kMatrices = 96 << 10, kImages = 256 << 10;
// The pixels whose gradients are summed before the sum goes to memory.
constexpr int64_t kSummed = 192;

Vector load_some(const float* x, int64_t count) {
  if (count >= kLanes) return load(x);
  Vector v = {};
  std::memcpy(&v, x, sizeof(float) * std::max<int64_t>(count, 0));
  return v;
}

void store_some(float* x, Vector v, int64_t count) {
  if (count >= kLanes) return store(x, v);
  std::memcpy(x, &v, sizeof(float) * std::max<int64_t>(count, 0));
}

// Functions of their own keep the sums in registers: inlined, GCC puts them on the stack.
// sums [R, kWide] += in[r] [inner] times matrix [inner, kColumns].
template <int R>
__attribute__((noinline)) void accumulate(const float* const* in, const float* matrix, int64_t inner, Vector sums[][kWide]) {
  const float* at[R];
  Vector local[R][kWide];
  for (int r = 0; r < R; ++r) {
    at[r] = in[r];
    for (int v = 0; v < kWide; ++v) local[r][v] = sums[r][v];
  }
#pragma GCC unroll 2
  for (int64_t c = 0; c < inner; ++c, matrix += kColumns) {
    Vector right[kWide];
    for (int v = 0; v < kWide; ++v) {
      right[v] = load(matrix + v * kLanes);
      keep(right[v]);
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kWide; ++v) local[r][v] += at[r][c] * right[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kWide; ++v) sums[r][v] = local[r][v];
}

template <int... R>
inline void accumulate(std::integer_sequence<int, R...>, int rows, const float* const* in, const float* matrix,
                       int64_t inner, Vector sums[][kWide]) {
  ((rows == R + 1 ? accumulate<R + 1>(in, matrix, inner, sums) : void()), ...);
}

// Part of the window's sum: some taps and some channels, whose matrices are at most kMatrices bytes.
struct Part {
  int64_t tap, end_tap, channel, end_channel;
};

// out[image, pixel, :] = sum over taps of in[image, tap's pixel, :] times the tap's matrix [inner, outer].
struct Sum {
  const float* in;
  float* out;
  int64_t images, in_image, inner, outer;
  const Taps& taps;
  const float* matrices;  // [outer / kColumns, taps, inner, kColumns]

  void run() const {
    // Small images side by side: their pixels at one place have the same taps inside.
    const bool across = taps.pixels <= 2 * kTile;
    const int64_t at_once = std::max<int64_t>(1, kImages / (in_image * static_cast<int64_t>(sizeof(float))));
    const int64_t block = across ? (at_once + kTile - 1) / kTile * kTile : at_once;
    std::vector<Part> parts;
    const int64_t most = std::max<int64_t>(kMatrices / (kColumns * static_cast<int64_t>(sizeof(float))), 1);
    const int64_t channels = (inner + (inner + most - 1) / most - 1) / ((inner + most - 1) / most);
    const int64_t together = std::max<int64_t>(1, most / inner);
    for (int64_t c = 0; c < inner; c += channels)
      for (int64_t t = 0; t < taps.taps; t += together)
        parts.push_back({t, std::min(t + together, taps.taps), c, std::min(c + channels, inner)});
    const std::vector<float> zeros(inner);
    std::vector<char> started;
    for (int64_t first = 0; first < images; first += block) {
      const int64_t count = std::min(block, images - first);
      const int64_t tiles = across ? (count + kTile - 1) / kTile * taps.pixels : count * tiles_of_image();
      for (int64_t column = 0; column < outer; column += kColumns) {
        started.assign(tiles, 0);
        for (size_t p = 0; p < parts.size(); ++p)
          for (int64_t t = 0; t < tiles; ++t)
            tile(across, first, count, t, column, parts[p], p + 1 == parts.size(), zeros.data(), started[t]);
      }
    }
  }

 private:
  int64_t tiles_of_image() const { return (taps.pixels + kTile - 1) / kTile; }

  void tile(bool across, int64_t first, int64_t count, int64_t t, int64_t column, const Part& part, bool last,
            const float* zeros, char& started) const {
    const int64_t per = across ? taps.pixels : tiles_of_image();
    const int64_t image = first + t / per * (across ? kTile : 1);
    const int64_t pixel = t % per * (across ? 1 : kTile);
    const int rows =
        static_cast<int>(std::min<int64_t>(kTile, across ? first + count - image : taps.pixels - pixel));
    const int64_t next_pixel = across ? 0 : 1, next_image = across ? 1 : 0;
    float* to = out + (image * taps.pixels + pixel) * outer + column;
    const int64_t step = (across ? taps.pixels : 1) * outer, left = outer - column;
    const float* from = in + image * in_image;
    Vector sums[kTile][kWide];
    bool loaded = false;
    for (int64_t tap = part.tap; tap < part.end_tap; ++tap) {
      const float* at[kTile];
      bool any = false;
      for (int r = 0; r < rows; ++r) {
        const int32_t offset = taps.at(pixel + r * next_pixel, tap);
        any |= offset >= 0;
        at[r] = offset >= 0 ? from + r * next_image * in_image + offset + part.channel : zeros;
      }
      if (!any) continue;
      if (!loaded)
        for (int r = 0; r < rows; ++r)
          for (int v = 0; v < kWide; ++v)
            sums[r][v] = started ? load_some(to + r * step + v * kLanes, left - v * kLanes) : Vector{};
      loaded = true;
      const float* matrix = matrices + ((column / kColumns * taps.taps + tap) * inner + part.channel) * kColumns;
      accumulate(std::make_integer_sequence<int, kTile>{}, rows, at, matrix, part.end_channel - part.channel, sums);
    }
    if (!loaded && !(last && !started)) return;
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < kWide; ++v)
        store_some(to + r * step + v * kLanes, loaded ? sums[r][v] : Vector{}, left - v * kLanes);
    started = 1;
  }
};

// kernel [window, channels in, channels out] -> [outer / kColumns, taps, inner, kColumns], padded with zeros; turned:
// inner and outer are the channels out and in.
Buffer in_panels(const float* kernel, const Taps& taps, int64_t channels, int64_t out_channels, bool turned) {
  const int64_t inner = turned ? out_channels : channels, outer = turned ? channels : out_channels;
  const int64_t panels = (outer + kColumns - 1) / kColumns;
  Buffer made(panels * taps.taps * inner * kColumns);
  for (int64_t t = 0; t < taps.taps; ++t)
    for (int64_t panel = 0; panel < panels; ++panel) {
      float* to = made.data() + (panel * taps.taps + t) * inner * kColumns;
      const float* from = kernel + taps.place[t] * channels * out_channels;
      const int64_t column = panel * kColumns, width = std::min<int64_t>(kColumns, outer - column);
      if (turned) {
        for (int64_t i = 0; i < inner; i += kLanes)
          for (int64_t j = 0; j < width; ++j)
            for (int64_t n = i; n < std::min<int64_t>(i + kLanes, inner); ++n)
              to[n * kColumns + j] = from[(column + j) * out_channels + n];
      } else {
        for (int64_t i = 0; i < inner; ++i)
          std::memcpy(to + i * kColumns, from + i * out_channels + column, sizeof(float) * width);
      }
    }
  return made;
}

// The gradient of the kernel: dk[tap, c, d] = sum over images and pixels of x[tap's pixel, c] * dy[pixel, d].
struct KernelGradient {
  const float* in;
  const float* above;  // [images, pixels, out_channels]
  float* out;          // [window, channels, out_channels]
  int64_t window, images, in_image, channels, out_channels;
  const Taps& taps;

  void run() const {
    std::memset(out, 0, sizeof(float) * window * channels * out_channels);
    // Blocks of whole images where they are small, of one image's pixels where they are large.
    const int64_t together = std::max<int64_t>(1, kSummed / taps.pixels);
    const int64_t pieces = together > 1 ? 1 : (taps.pixels + kSummed - 1) / kSummed;
    const int64_t piece = (taps.pixels + pieces - 1) / pieces;
    Buffer panel(together * piece * kColumns);
    for (int64_t p = 0; p < pieces; ++p) {
      const int64_t begin = p * piece, end = std::min(begin + piece, taps.pixels);
      const Pairs pairs = pairs_of(begin, end, together);
      for (int64_t image = 0; image < images; image += together) {
        const int64_t count = std::min(together, images - image);
        for (int64_t column = 0; column < out_channels; column += kColumns) {
          take(panel.data(), image, count, begin, end, column);
          for (int64_t t = 0; t < taps.taps; ++t) {
            // The pairs are sorted by image, so that a block with fewer takes the first of them.
            const int64_t pixels = pairs.inside[t] * count;
            for (int64_t c = 0; pixels && c < channels; c += kTile)
              rows(std::make_integer_sequence<int, kTile>{}, std::min<int64_t>(kTile, channels - c),
                   in + image * in_image + c, panel.data(), pairs.from[t].data(), pairs.row[t].data(), pixels,
                   out + (taps.place[t] * channels + c) * out_channels + column, out_channels - column);
          }
        }
      }
    }
  }

 private:
  // Of each tap: how many of an image's pixels are inside, where they lie in the input, and their rows in the panel.
  struct Pairs {
    std::vector<int64_t> inside;
    std::vector<std::vector<int32_t>> from, row;
  };

  Pairs pairs_of(int64_t begin, int64_t end, int64_t together) const {
    Pairs made{std::vector<int64_t>(taps.taps), std::vector<std::vector<int32_t>>(taps.taps),
               std::vector<std::vector<int32_t>>(taps.taps)};
    for (int64_t t = 0; t < taps.taps; ++t)
      for (int64_t b = 0; b < together; ++b)
        for (int64_t p = begin; p < end; ++p) {
          if (taps.at(p, t) < 0) continue;
          made.inside[t] += b == 0;
          made.from[t].push_back(static_cast<int32_t>(b * in_image + taps.at(p, t)));
          made.row[t].push_back(static_cast<int32_t>((b * (end - begin) + p - begin) * kColumns));
        }
    return made;
  }

  void take(float* panel, int64_t image, int64_t count, int64_t begin, int64_t end, int64_t column) const {
    const int64_t width = std::min<int64_t>(kColumns, out_channels - column);
    for (int64_t b = 0; b < count; ++b)
      for (int64_t p = begin; p < end; ++p, panel += kColumns)
        std::memcpy(panel, above + ((image + b) * taps.pixels + p) * out_channels + column, sizeof(float) * width);
  }

  template <int R>
  static void add(const float* x, const float* panel, const int32_t* from, const int32_t* row, int64_t pixels,
                  float* to, int64_t stride, int64_t left) {
    Vector sums[R][kWide];
    sum<R>(x, panel, from, row, pixels, sums);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kWide; ++v) {
        float* w = to + r * stride + v * kLanes;
        store_some(w, load_some(w, left - v * kLanes) + sums[r][v], left - v * kLanes);
      }
  }

  template <int R>
  __attribute__((noinline)) static void sum(const float* x, const float* panel, const int32_t* from, const int32_t* row, int64_t pixels,
                  Vector sums[][kWide]) {
    Vector local[R][kWide];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kWide; ++v) local[r][v] = Vector{};
    for (int64_t p = 0; p < pixels; ++p) {
      const float* a = x + from[p];
      const float* b = panel + row[p];
      Vector right[kWide];
      for (int v = 0; v < kWide; ++v) {
        right[v] = load(b + v * kLanes);
        keep(right[v]);
      }
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kWide; ++v) local[r][v] += a[r] * right[v];
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kWide; ++v) sums[r][v] = local[r][v];
  }

  template <int... R>
  void rows(std::integer_sequence<int, R...>, int64_t count, const float* x, const float* panel, const int32_t* from,
            const int32_t* row, int64_t pixels, float* to, int64_t left) const {
    ((count == R + 1 ? add<R + 1>(x, panel, from, row, pixels, to, out_channels, left) : void()), ...);
  }
};

using Images = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;

// What the loops rely on; JAX's side never asks for anything else.
ffi::Error check(const Shape& s, int64_t channels, int64_t out_channels, int64_t images) {
  const bool fits = s.channels == channels && s.out_channels == out_channels && s.images == images &&
                    s.stride_rows > 0 && s.stride_columns > 0;
  return fits ? ffi::Error::Success() : ffi::Error::InvalidArgument("images and kernel must have sizes that fit");
}

Shape shape_of(ffi::Span<const int64_t> x, ffi::Span<const int64_t> kernel, ffi::Span<const int64_t> out,
               int64_t stride_rows, int64_t stride_columns, int64_t top, int64_t left) {
  return {x[0], x[1], x[2], x[3], kernel[0], kernel[1], stride_rows, stride_columns, top, left, out[1], out[2], out[3]};
}

ffi::Error Forward(Images x, Images kernel, Result out, int64_t stride_rows, int64_t stride_columns, int64_t top,
                   int64_t left) {
  const Shape s =
      shape_of(x.dimensions(), kernel.dimensions(), out->dimensions(), stride_rows, stride_columns, top, left);
  const auto sizes = kernel.dimensions();
  if (ffi::Error error = check(s, sizes[2], sizes[3], out->dimensions()[0]); error.failure()) return error;
  auto run = [&](const Shape& on, const float* images, const Taps& taps, int64_t inner) {
    Buffer panels = in_panels(kernel.typed_data(), taps, inner, on.out_channels, false);
    const int64_t image = on.height * on.width * on.channels;
    Sum{images, out->typed_data(), on.images, image, inner, on.out_channels, taps, panels.data()}.run();
  };
  if (is_narrow(s)) {
    Widened wide = widen(s, x.typed_data());
    run(wide.shape, wide.images.data(), taps_of_rows(wide.shape), s.columns * s.channels);
  } else {
    run(s, x.typed_data(), taps_of_output(s), s.channels);
  }
  return ffi::Error::Success();
}

ffi::Error ImagesGradient(Images above, Images kernel, Result out, int64_t stride_rows, int64_t stride_columns,
                          int64_t top, int64_t left) {
  const Shape s =
      shape_of(out->dimensions(), kernel.dimensions(), above.dimensions(), stride_rows, stride_columns, top, left);
  const auto sizes = kernel.dimensions();
  if (ffi::Error error = check(s, sizes[2], sizes[3], above.dimensions()[0]); error.failure()) return error;
  const Taps taps = taps_of_input(s);
  Buffer panels = in_panels(kernel.typed_data(), taps, s.channels, s.out_channels, true);
  const int64_t image = s.out_height * s.out_width * s.out_channels;
  Sum{above.typed_data(), out->typed_data(), s.images, image, s.out_channels, s.channels, taps, panels.data()}.run();
  return ffi::Error::Success();
}

ffi::Error OfKernel(Images x, Images above, Result out, int64_t stride_rows, int64_t stride_columns, int64_t top,
                    int64_t left) {
  const Shape s =
      shape_of(x.dimensions(), out->dimensions(), above.dimensions(), stride_rows, stride_columns, top, left);
  const auto sizes = out->dimensions();
  if (ffi::Error error = check(s, sizes[2], sizes[3], above.dimensions()[0]); error.failure()) return error;
  auto run = [&](const Shape& on, const float* images, const Taps& taps, int64_t channels) {
    const int64_t image = on.height * on.width * on.channels;
    const int64_t window = out->element_count() / (channels * on.out_channels);
    KernelGradient{images, above.typed_data(),  out->typed_data(), window, on.images, image,
                   channels, on.out_channels, taps}
        .run();
  };
  if (is_narrow(s)) {
    Widened wide = widen(s, x.typed_data());
    run(wide.shape, wide.images.data(), taps_of_rows(wide.shape), s.columns * s.channels);
  } else {
    run(s, x.typed_data(), taps_of_output(s), s.channels);
  }
  return ffi::Error::Success();
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Arg<Images>()
      .Arg<Images>()
      .Ret<Images>()
      .Attr<int64_t>("stride_rows")
      .Attr<int64_t>("stride_columns")
      .Attr<int64_t>("top")
      .Attr<int64_t>("left");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(Convolution, Forward, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ConvolutionImages, ImagesGradient, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ConvolutionKernel, OfKernel, Binding());
