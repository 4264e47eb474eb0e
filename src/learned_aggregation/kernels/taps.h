// Where a convolution's window finds its inputs.

#ifndef LEARNED_AGGREGATION_TAPS_H_
#define LEARNED_AGGREGATION_TAPS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage: compiled into one caller

struct Shape {
  int64_t images, height, width, channels;              // of the input
  int64_t rows, columns, stride_rows, stride_columns;   // of the window
  int64_t top, left;                                    // padding
  int64_t out_height, out_width, out_channels;
};

// Where each output pixel's taps lie in an image of the input: offsets [pixels, taps], negative outside. Only the taps
// that are inside for some pixel; place: which of the window's each of them is.
struct Taps {
  int64_t pixels, taps;
  std::vector<int32_t> offset;
  std::vector<int64_t> place;
  int32_t at(int64_t pixel, int64_t tap) const { return offset[pixel * taps + tap]; }
};

Taps of_use(int64_t pixels, int64_t window, const std::vector<int32_t>& offset) {
  Taps found{pixels, 0, {}, {}};
  for (int64_t t = 0; t < window; ++t)
    for (int64_t p = 0; p < pixels; ++p)
      if (offset[p * window + t] >= 0) {
        found.place.push_back(t);
        break;
      }
  found.taps = found.place.size();
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t t : found.place) found.offset.push_back(offset[p * window + t]);
  return found;
}

Taps taps_of_output(const Shape& s) {
  std::vector<int32_t> offset;
  for (int64_t i = 0; i < s.out_height; ++i)
    for (int64_t j = 0; j < s.out_width; ++j)
      for (int64_t k = 0; k < s.rows; ++k)
        for (int64_t l = 0; l < s.columns; ++l) {
          const int64_t y = i * s.stride_rows + k - s.top, x = j * s.stride_columns + l - s.left;
          const bool inside = 0 <= y && y < s.height && 0 <= x && x < s.width;
          offset.push_back(inside ? (y * s.width + x) * s.channels : -1);
        }
  return of_use(s.out_height * s.out_width, s.rows * s.columns, offset);
}

// The same for the gradient of the images: each pixel of the input, and the output pixels that it went to.
Taps taps_of_input(const Shape& s) {
  std::vector<int32_t> offset;
  for (int64_t y = 0; y < s.height; ++y)
    for (int64_t x = 0; x < s.width; ++x)
      for (int64_t k = 0; k < s.rows; ++k)
        for (int64_t l = 0; l < s.columns; ++l) {
          const int64_t i = y + s.top - k, j = x + s.left - l;
          const bool whole = i >= 0 && j >= 0 && i % s.stride_rows == 0 && j % s.stride_columns == 0;
          const int64_t row = i / s.stride_rows, column = j / s.stride_columns;
          const bool inside = whole && row < s.out_height && column < s.out_width;
          offset.push_back(inside ? (row * s.out_width + column) * s.out_channels : -1);
        }
  return of_use(s.height * s.width, s.rows * s.columns, offset);
}

// Images of few channels with their padding, so that a row of the window is one tap of columns * channels: a tap of
// three channels would be over before it has begun.
struct Widened {
  explicit Widened(const Shape& s) : shape(s), images(0) {
    shape.height = (s.out_height - 1) * s.stride_rows + s.rows;
    shape.width = (s.out_width - 1) * s.stride_columns + s.columns;
    shape.top = shape.left = 0;
    images = Buffer(s.images * shape.height * shape.width * s.channels);
  }

  // The images x inside of their padding, which stays 0.
  const float* fill(const Shape& s, const float* x) {
    float* to = images.data();
    const int64_t begin = std::max<int64_t>(0, -s.left), end = std::min(s.width, shape.width - s.left);
    for (int64_t b = 0; b < s.images; ++b)
      for (int64_t y = 0; y < shape.height; ++y, to += shape.width * s.channels) {
        const int64_t row = y - s.top;
        if (row < 0 || row >= s.height || begin >= end) continue;
        const float* from = x + ((b * s.height + row) * s.width + begin) * s.channels;
        std::memcpy(to + (begin + s.left) * s.channels, from, sizeof(float) * (end - begin) * s.channels);
      }
    return images.data();
  }

  Shape shape;
  Buffer images;
};

bool is_narrow(const Shape& s) { return s.channels < kLanes && s.columns > 1; }

// Of widened images: a row of the window is a tap.
Taps taps_of_rows(const Shape& s) {
  std::vector<int32_t> offset;
  for (int64_t i = 0; i < s.out_height; ++i)
    for (int64_t j = 0; j < s.out_width; ++j)
      for (int64_t k = 0; k < s.rows; ++k)
        offset.push_back(((i * s.stride_rows + k) * s.width + j * s.stride_columns) * s.channels);
  return of_use(s.out_height * s.out_width, s.rows, offset);
}

}  // namespace
}  // namespace learned_aggregation

#endif
