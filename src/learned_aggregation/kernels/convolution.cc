// Convolutions of images whose channels are their last axis: the output, and the gradients of both operands.
//
// The output at a pixel is a sum over the window's taps of an input pixel times a matrix [channels in, channels out].
// No patches are written: a tile of pixels reads its inputs where they lie, and a tap that falls outside of the image
// costs nothing where the whole tile's does. The gradient of the images is the same sum with the matrices transposed.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution_gradient.h"
#include "convolution_sum.h"
#include "operands.h"
#include "taps.h"
#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

using Images = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

// The clients of a call, side by side: their operands, whose last four dimensions are one client's, and its result's.
struct Clients {
  Clients(const Images& left, const Images& right, Result& out)
      : rank(out->dimensions().size() - 4), left(left), right(right), out(out) {
    const auto dimensions = out->dimensions();
    const ffi::Span<const int64_t> batch(dimensions.begin(), rank);
    of_left = offsets(batch, left.dimensions()), of_right = offsets(batch, right.dimensions());
    for (size_t d = rank; d < dimensions.size(); ++d) size *= dimensions[d];
  }
  ffi::Span<const int64_t> one(const Images& x) const { return {x.dimensions().begin() + rank, 4}; }
  int64_t count() const { return of_left.size(); }
  const float* left_of(int64_t i) const { return left.typed_data<float>() + of_left[i]; }
  const float* right_of(int64_t i) const { return right.typed_data<float>() + of_right[i]; }
  float* out_of(int64_t i) { return out->typed_data<float>() + i * size; }

  size_t rank;
  const Images &left, &right;
  Result& out;
  std::vector<int64_t> of_left, of_right;
  int64_t size = 1;
};

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

int64_t image_of(const Shape& s) { return s.height * s.width * s.channels; }

// Each client's sum; `images_of(i)` gives its input. A kernel that clients share is put into panels once.
template <typename ImagesOf>
void sum_all(Clients& clients, int64_t images, int64_t in_image, int64_t inner, int64_t outer, const Taps& taps,
             bool turned, const ImagesOf& images_of) {
  with_width(outer, [&](auto width) {
    using W = decltype(width);
    Sum<W> sum(images, in_image, inner, outer, taps);
    Buffer panels = panels_of<W>(taps, inner, outer);
    for (int64_t i = 0; i < clients.count(); ++i) {
      if (i == 0 || clients.of_right[i] != clients.of_right[i - 1])
        fill_panels<W>(clients.right_of(i), taps, inner, outer, turned, panels.data());
      sum.run(images_of(i), panels.data(), clients.out_of(i));
    }
  });
}

ffi::Error Forward(Images x, Images kernel, Result out, int64_t stride_rows, int64_t stride_columns, int64_t top,
                   int64_t left) {
  Clients clients(x, kernel, out);
  const auto sizes = clients.one(kernel), made = clients.one(*out);
  const Shape s = shape_of(clients.one(x), sizes, made, stride_rows, stride_columns, top, left);
  if (ffi::Error error = check(s, sizes[2], sizes[3], made[0]); error.failure()) return error;
  if (is_narrow(s)) {
    Widened wide(s);
    const int64_t inner = s.columns * s.channels;
    sum_all(clients, s.images, image_of(wide.shape), inner, s.out_channels, taps_of_rows(wide.shape), false,
            [&](int64_t i) { return wide.fill(s, clients.left_of(i)); });
  } else {
    sum_all(clients, s.images, image_of(s), s.channels, s.out_channels, taps_of_output(s), false,
            [&](int64_t i) { return clients.left_of(i); });
  }
  return ffi::Error::Success();
}

ffi::Error ImagesGradient(Images above, Images kernel, Result out, int64_t stride_rows, int64_t stride_columns,
                          int64_t top, int64_t left) {
  Clients clients(above, kernel, out);
  const auto sizes = clients.one(kernel), from = clients.one(above);
  const Shape s = shape_of(clients.one(*out), sizes, from, stride_rows, stride_columns, top, left);
  if (ffi::Error error = check(s, sizes[2], sizes[3], from[0]); error.failure()) return error;
  sum_all(clients, s.images, s.out_height * s.out_width * s.out_channels, s.out_channels, s.channels,
          taps_of_input(s), true, [&](int64_t i) { return clients.left_of(i); });
  return ffi::Error::Success();
}

ffi::Error OfKernel(Images x, Images above, Result out, int64_t stride_rows, int64_t stride_columns, int64_t top,
                    int64_t left) {
  Clients clients(x, above, out);
  const auto sizes = clients.one(*out), from = clients.one(above);
  const Shape s = shape_of(clients.one(x), sizes, from, stride_rows, stride_columns, top, left);
  if (ffi::Error error = check(s, sizes[2], sizes[3], from[0]); error.failure()) return error;
  const bool narrow = is_narrow(s);
  Widened wide(narrow ? s : Shape{});
  const Taps taps = narrow ? taps_of_rows(wide.shape) : taps_of_output(s);
  const int64_t channels = narrow ? s.columns * s.channels : s.channels;
  with_width(s.out_channels, [&](auto width) {
    KernelGradient<decltype(width)> gradient(clients.size / (channels * s.out_channels), s.images,
                                             image_of(narrow ? wide.shape : s), channels, s.out_channels, taps);
    for (int64_t i = 0; i < clients.count(); ++i)
      gradient.run(narrow ? wide.fill(s, clients.left_of(i)) : clients.left_of(i), clients.right_of(i),
                   clients.out_of(i));
  });
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
