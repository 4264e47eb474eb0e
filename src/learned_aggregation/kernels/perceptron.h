// A multilayer perceptron with ReLU and softmax cross-entropy on one batch: what its training and the gradient through
// its training share. Rows of weights and activations are padded with zeros to whole vectors.

#ifndef LEARNED_AGGREGATION_PERCEPTRON_H_
#define LEARNED_AGGREGATION_PERCEPTRON_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "matrices.h"
#include "operands.h"
#include "vectors.h"

namespace learned_aggregation {
namespace {  // internal linkage, as in matrices.h

// A layer of a model, and of a whole batch its inputs and `rate` times the loss's gradient with respect to
// its outputs. Weights are [in, out], the last layer's [out, in], its gradient [out, B]: a batch has more lanes to fill
// than there are classes. All rows are padded to whole vectors.
struct Layer {
  Layer(int64_t inputs, int64_t outputs, int64_t batch)
      : in(inputs), out(outputs), high(padded(in)), wide(padded(out)), weights(high * wide), bias(wide),
        input(padded(batch) * high), gradient(padded(batch) * wide), turned(high * std::max(wide, padded(batch))) {}
  int64_t in, out, high, wide;
  Buffer weights, bias, input, gradient;
  Buffer turned;  // the weights, or the last layer's input
};

template <int N>
struct Lanes {
  typedef float Type __attribute__((vector_size(N * sizeof(float))));
};

// The sum of a vector's lanes, by halves.
template <int N = kLanes>
inline float sum_of(typename Lanes<N>::Type v) {
  if constexpr (N == 4) {
    return (v[0] + v[1]) + (v[2] + v[3]);
  } else {
    typename Lanes<N / 2>::Type halves[2];
    std::memcpy(halves, &v, sizeof v);
    return sum_of<N / 2>(halves[0] + halves[1]);
  }
}

// What a client trains with, H batches.
template <typename Pixel>
struct Batches {
  const Pixel* image;    // [H, B, in]
  const int32_t* label;  // [H, B]
  const float *scale, *shift;  // [in]
};

using Layers = std::vector<Layer>;

// A step of SGD on a batch of B examples, with layers of `sizes`: inputs, hidden widths, classes.
class Perceptron {
 public:
  Perceptron(const std::vector<int64_t>& sizes, int64_t batch) : sizes_(sizes), batch_(batch), lanes_(padded(batch)) {}

  Layers layers() const {
    Layers found;
    for (size_t l = 0; l + 1 < sizes_.size(); ++l) found.emplace_back(sizes_[l], sizes_[l + 1], batch_);
    return found;
  }

  // Arrays as JAX has them, kernel and bias of each layer in turn.
  static void take(Layers& layers, const std::vector<const float*>& from) {
    const size_t last = layers.size() - 1;
    for (size_t l = 0; l <= last; ++l) take_layer(layers[l], l == last, from[2 * l], from[2 * l + 1]);
  }

  // to <- the layers' weights - start.
  static void give(Layers& layers, const std::vector<const float*>& start, const std::vector<float*>& to) {
    const size_t last = layers.size() - 1;
    for (size_t l = 0; l <= last; ++l)
      give_layer(layers[l], l == last, start[2 * l], start[2 * l + 1], to[2 * l], to[2 * l + 1]);
  }

  // The mean loss on batch h, and the last layer's gradient.
  template <bool kKeep = false, typename Pixel>
  double forward(Layers& at, const Batches<Pixel>& data, int64_t h, float rate, float* chances = nullptr) const {
    take_images(at[0], data, h);
    for (size_t l = 0; l + 1 < at.size(); ++l) forward_layer(at[l], at[l + 1].input.data());
    forward_last(at.back());
    return measure<kKeep>(at.back(), data.label + h * batch_, rate, chances);
  }

  // The gradients of all layers; `to`, which may be `at`, gets the weights after the step.
  void backward(Layers& at, Layers& to) const {
    backward_last(at, to.back());
    for (size_t l = at.size() - 1; l-- > 0;) backward_layer(at, l, to[l]);
  }

 protected:
  void forward_layer(Layer& layer, float* to) const {
    const float* bias = layer.bias.data();
    const int64_t wide = layer.wide;
    product(
        AsItLies{layer.input.data(), layer.high}, batch_, layer.in, layer.weights.data(), wide,
        [=](int64_t, int64_t column) { return load(bias + column); },
        [=](int64_t row, int64_t column, Vector z) { store(to + row * wide + column, relu(z)); });
  }

  // The logits, into the gradient's place.
  void forward_last(Layer& layer) const {
    turn(layer.input.data(), lanes_, layer.high, layer.high, layer.turned.data(), lanes_);
    const float* bias = layer.bias.data();
    float* to = layer.gradient.data();
    const int64_t lanes = lanes_;
    product(
        AsItLies{layer.weights.data(), layer.high}, layer.out, layer.in, layer.turned.data(), lanes,
        [=](int64_t row, int64_t) { return Vector{} + bias[row]; },
        [=](int64_t row, int64_t column, Vector z) { store(to + row * lanes + column, z); });
  }

  // weights [rows, width] <- from - left [rows, B] right [B, width]. Summed before it is subtracted: each of the batch's
  // terms alone would be rounded as the weights are. In place, one pointer for both saves a tenth of the training.
  template <typename Left>
  void step(Left left, int64_t rows, const float* right, int64_t width, const float* from, float* weights) const {
    const auto none = [](int64_t, int64_t) { return Vector{}; };
    const auto moved = [=](int64_t row, int64_t column, Vector sum) {
      float* place = weights + row * width + column;
      store(place, load(place) - sum);
    };
    if (from == weights) return product(left, rows, batch_, right, width, none, moved);
    product(left, rows, batch_, right, width, none, [=](int64_t row, int64_t column, Vector sum) {
      const int64_t place = row * width + column;
      store(weights + place, load(from + place) - sum);
    });
  }

  // bias <- from - the sum over the batch of a last layer's gradient [out, B].
  void step_bias_last(const Layer& layer, const float* gradient, const float* from, float* bias) const {
    for (int64_t c = 0; c < layer.out; ++c) {
      Vector sum = {};
      for (int64_t b = 0; b < lanes_; b += kLanes) sum += load(gradient + c * lanes_ + b);
      bias[c] = from[c] - sum_of(sum);
    }
  }

  // The same of another layer's [B, out].
  void step_bias(const Layer& layer, const float* gradient, const float* from, float* bias) const {
    for (int64_t j = 0; j < layer.wide; j += kLanes) {
      Vector sum = {};
      for (int64_t b = 0; b < batch_; ++b) sum += load(gradient + b * layer.wide + j);
      store(bias + j, load(from + j) - sum);
    }
  }

  std::vector<int64_t> sizes_;
  int64_t batch_, lanes_;  // B, and padded

 private:
  static void take_layer(Layer& layer, bool last, const float* weights, const float* bias) {
    for (int64_t i = 0; i < layer.in; ++i, weights += layer.out) {
      if (!last) std::memcpy(layer.weights.data() + i * layer.wide, weights, sizeof(float) * layer.out);
      for (int64_t j = 0; last && j < layer.out; ++j) layer.weights.data()[j * layer.high + i] = weights[j];
    }
    std::memcpy(layer.bias.data(), bias, sizeof(float) * layer.out);
  }

  static void give_layer(Layer& layer, bool last, const float* weights, const float* bias, float* weights_delta,
                   float* bias_delta) {
    auto subtract = [&](const float* end, int64_t stride, const float* start, float* to) {
      for (int64_t j = 0; j < layer.out; ++j) to[j] = end[j * stride] - start[j];
    };
    for (int64_t i = 0; i < layer.in; ++i, weights += layer.out, weights_delta += layer.out) {
      if (last)
        subtract(layer.weights.data() + i, layer.high, weights, weights_delta);
      else
        subtract(layer.weights.data() + i * layer.wide, 1, weights, weights_delta);
    }
    subtract(layer.bias.data(), 1, bias, bias_delta);
  }

  template <typename Pixel>
  void take_images(Layer& layer, const Batches<Pixel>& data, int64_t h) const {
    const int64_t in = layer.in, high = layer.high;
    const Pixel* image = data.image + h * batch_ * in;
    float* x = layer.input.data();
    for (int64_t b = 0; b < batch_; ++b)
#pragma GCC ivdep
      for (int64_t i = 0; i < in; ++i)
        x[b * high + i] = static_cast<float>(image[b * in + i]) * data.scale[i] - data.shift[i];
  }

  // The mean loss; the last layer's gradient becomes rate * (softmax - one-hot) / B. All gradients are in proportion,
  // so that each is a step. `chances`, unless it is null, becomes the softmax [out, B].
  template <bool kKeep>
  double measure(Layer& layer, const int32_t* label, float rate, float* chances) const {
    const int32_t classes = static_cast<int32_t>(layer.out);
    const Vector share = Vector{} + rate / batch_;
    double loss = 0.0, product = 1.0;
    for (int64_t b = 0; b < batch_; b += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, batch_ - b));
      Ints own = {};
      std::memcpy(&own, label + b, sizeof(int32_t) * count);
      float* z = layer.gradient.data() + b;
      Vector most = load(z), sum = {}, chosen = {};
      for (int32_t c = 1; c < classes; ++c) {
        const Vector other = load(z + c * lanes_);
        most = other > most ? other : most;
      }
      for (int32_t c = 0; c < classes; ++c) {
        const Vector below = load(z + c * lanes_) - most, e = exponential(below);
        chosen = own == c ? below : chosen;
        sum += e;
        store(z + c * lanes_, e);
      }
      const Vector scale = share / sum;
      for (int32_t c = 0; c < classes; ++c) {
        const Vector target = own == c ? share : Vector{};
        if constexpr (kKeep) store(chances + c * lanes_ + b, load(z + c * lanes_) / sum);
        store(z + c * lanes_, load(z + c * lanes_) * scale - target);
      }
      for (int i = 0; i < count; ++i) {
        const bool known = 0 <= own[i] && own[i] < classes;
        loss -= known ? chosen[i] : std::numeric_limits<float>::quiet_NaN();
        product *= sum[i];  // one logarithm for many examples
      }
      for (int32_t c = 0; c < classes; ++c)
        for (int i = count; i < kLanes; ++i) {
          z[c * lanes_ + i] = 0.0f;
          if constexpr (kKeep) chances[c * lanes_ + b + i] = 0.0f;
        }
      if (!(product < 1e200)) loss += std::log(product), product = 1.0;
    }
    return (loss + std::log(product)) / batch_;
  }

  // Each layer's backward: the gradient with respect to the inputs, which the layer before takes, then its own step.
  void backward_last(Layers& at, Layer& to) const {
    Layer& layer = at.back();
    const float* gradient = layer.gradient.data();
    if (at.size() > 1) give_below(at, at.size() - 1, Turned{gradient, lanes_}, layer.weights.data());
    step(AsItLies{gradient, lanes_}, layer.out, layer.input.data(), layer.high, layer.weights.data(), to.weights.data());
    step_bias_last(layer, gradient, layer.bias.data(), to.bias.data());
  }

  void backward_layer(Layers& at, size_t l, Layer& to) const {
    Layer& layer = at[l];
    const float* gradient = layer.gradient.data();
    const int64_t wide = layer.wide;
    if (l) {
      turn(layer.weights.data(), layer.high, wide, wide, layer.turned.data(), layer.high);
      give_below(at, l, AsItLies{gradient, wide}, layer.turned.data());
    }
    step(Turned{layer.input.data(), layer.high}, layer.in, gradient, wide, layer.weights.data(), to.weights.data());
    step_bias(layer, gradient, layer.bias.data(), to.bias.data());
  }

  // From the gradient [B, out] and the weights [out, in] of layer l.
  template <typename Left>
  void give_below(Layers& at, size_t l, Left gradient, const float* weights) const {
    const int64_t high = at[l].high;
    const float* active = at[l].input.data();
    float* to = at[l - 1].gradient.data();
    product(
        gradient, batch_, at[l].out, weights, high, [](int64_t, int64_t) { return Vector{}; },
        [=](int64_t row, int64_t column, Vector sum) {
          store(to + row * high + column, load(active + row * high + column) > 0.0f ? sum : Vector{});
        });
  }
};

}  // namespace
}  // namespace learned_aggregation

#endif
