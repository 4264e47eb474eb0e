// H steps of SGD on a multilayer perceptron with ReLU and softmax cross-entropy: one client's local training, fused.
//
// A client's weights, activations and gradients stay in the caches over all of its steps, and a layer's gradient goes
// from the registers into its weights; XLA's CPU backend writes each array of all clients to memory and reads it back.
// Rows of weights and activations are padded with zeros to whole vectors.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "matrices.h"
#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

// A layer of the client's model, and of a whole batch its inputs and `rate` times the loss's gradient with respect to
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

// What a client trains with.
template <typename Pixel>
struct Batches {
  const Pixel* image;    // [H, B, in]
  const int32_t* label;  // [H, B]
  const float *scale, *shift;  // [in]
};

class Client {
 public:
  Client(const std::vector<int64_t>& sizes, int64_t batch) : batch_(batch), lanes_(padded(batch)) {
    for (size_t l = 0; l + 1 < sizes.size(); ++l) layers_.emplace_back(sizes[l], sizes[l + 1], batch);
  }

  // Mean loss over the steps; each is measured before its step.
  template <typename Pixel>
  float train(const std::vector<const float*>& params, const Batches<Pixel>& data, int64_t steps, float rate,
              const std::vector<float*>& delta) {
    const size_t last = layers_.size() - 1;
    for (size_t l = 0; l <= last; ++l) take(layers_[l], l == last, params[2 * l], params[2 * l + 1]);
    double loss = 0.0;
    for (int64_t h = 0; h < steps; ++h) {
      take_images(data, h);
      for (size_t l = 0; l < last; ++l) forward(layers_[l], layers_[l + 1].input.data());
      forward_last();
      loss += measure(data.label + h * batch_, rate);
      backward_last();
      for (size_t l = last; l-- > 0;) backward(l);
    }
    for (size_t l = 0; l <= last; ++l)
      give(layers_[l], l == last, params[2 * l], params[2 * l + 1], delta[2 * l], delta[2 * l + 1]);
    return static_cast<float>(loss / steps);
  }

 private:
  static void take(Layer& layer, bool last, const float* weights, const float* bias) {
    for (int64_t i = 0; i < layer.in; ++i, weights += layer.out) {
      if (!last) std::memcpy(layer.weights.data() + i * layer.wide, weights, sizeof(float) * layer.out);
      for (int64_t j = 0; last && j < layer.out; ++j) layer.weights.data()[j * layer.high + i] = weights[j];
    }
    std::memcpy(layer.bias.data(), bias, sizeof(float) * layer.out);
  }

  static void give(Layer& layer, bool last, const float* weights, const float* bias, float* weights_delta,
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
  void take_images(const Batches<Pixel>& data, int64_t h) {
    const int64_t in = layers_[0].in, high = layers_[0].high;
    const Pixel* image = data.image + h * batch_ * in;
    float* x = layers_[0].input.data();
    for (int64_t b = 0; b < batch_; ++b)
#pragma GCC ivdep
      for (int64_t i = 0; i < in; ++i)
        x[b * high + i] = static_cast<float>(image[b * in + i]) * data.scale[i] - data.shift[i];
  }

  void forward(Layer& layer, float* to) {
    const float* bias = layer.bias.data();
    const int64_t wide = layer.wide;
    product(
        AsItLies{layer.input.data(), layer.high}, batch_, layer.in, layer.weights.data(), wide,
        [=](int64_t, int64_t column) { return load(bias + column); },
        [=](int64_t row, int64_t column, Vector z) { store(to + row * wide + column, relu(z)); });
  }

  // The logits, into the gradient's place.
  void forward_last() {
    Layer& layer = layers_.back();
    turn(layer.input.data(), lanes_, layer.high, layer.high, layer.turned.data(), lanes_);
    const float* bias = layer.bias.data();
    float* to = layer.gradient.data();
    const int64_t lanes = lanes_;
    product(
        AsItLies{layer.weights.data(), layer.high}, layer.out, layer.in, layer.turned.data(), lanes,
        [=](int64_t row, int64_t) { return Vector{} + bias[row]; },
        [=](int64_t row, int64_t column, Vector z) { store(to + row * lanes + column, z); });
  }

  // The mean loss; the last layer's gradient becomes rate * (softmax - one-hot) / B. All gradients are in proportion,
  // so that each is a step.
  double measure(const int32_t* label, float rate) {
    Layer& layer = layers_.back();
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
        store(z + c * lanes_, load(z + c * lanes_) * scale - target);
      }
      for (int i = 0; i < count; ++i) {
        const bool known = 0 <= own[i] && own[i] < classes;
        loss -= known ? chosen[i] : std::numeric_limits<float>::quiet_NaN();
        product *= sum[i];  // one logarithm for many examples
      }
      for (int32_t c = 0; c < classes; ++c)
        for (int i = count; i < kLanes; ++i) z[c * lanes_ + i] = 0.0f;
      if (!(product < 1e200)) loss += std::log(product), product = 1.0;
    }
    return (loss + std::log(product)) / batch_;
  }

  // Each layer's backward: the gradient with respect to the inputs, which the layer before takes, then its own step.
  void backward_last() {
    Layer& layer = layers_.back();
    const float* gradient = layer.gradient.data();
    float *weights = layer.weights.data(), *bias = layer.bias.data();
    if (layers_.size() > 1) give_below(layers_.size() - 1, Turned{gradient, lanes_}, weights);
    step(AsItLies{gradient, lanes_}, layer.out, layer.input.data(), layer.high, weights);
    for (int64_t c = 0; c < layer.out; ++c) {
      Vector sum = {};
      for (int64_t b = 0; b < lanes_; b += kLanes) sum += load(gradient + c * lanes_ + b);
      bias[c] -= sum_of(sum);
    }
  }

  void backward(size_t l) {
    Layer& layer = layers_[l];
    const float* gradient = layer.gradient.data();
    const int64_t wide = layer.wide;
    float *weights = layer.weights.data(), *bias = layer.bias.data();
    if (l) {
      turn(weights, layer.high, wide, wide, layer.turned.data(), layer.high);
      give_below(l, AsItLies{gradient, wide}, layer.turned.data());
    }
    step(Turned{layer.input.data(), layer.high}, layer.in, gradient, wide, weights);
    for (int64_t j = 0; j < wide; j += kLanes) {
      Vector sum = {};
      for (int64_t b = 0; b < batch_; ++b) sum += load(gradient + b * wide + j);
      store(bias + j, load(bias + j) - sum);
    }
  }

  // From the gradient [B, out] and the weights [out, in] of layer l.
  template <typename Left>
  void give_below(size_t l, Left gradient, const float* weights) {
    const int64_t high = layers_[l].high;
    const float* active = layers_[l].input.data();
    float* to = layers_[l - 1].gradient.data();
    product(
        gradient, batch_, layers_[l].out, weights, high, [](int64_t, int64_t) { return Vector{}; },
        [=](int64_t row, int64_t column, Vector sum) {
          store(to + row * high + column, load(active + row * high + column) > 0.0f ? sum : Vector{});
        });
  }

  // weights [rows, width] -= left [rows, B] right [B, width]. Summed before it is subtracted: each of the batch's terms
  // alone would be rounded as the weights are.
  template <typename Left>
  void step(Left left, int64_t rows, const float* right, int64_t width, float* weights) {
    product(
        left, rows, batch_, right, width, [](int64_t, int64_t) { return Vector{}; },
        [=](int64_t row, int64_t column, Vector sum) {
          float* w = weights + row * width + column;
          store(w, load(w) - sum);
        });
  }

  int64_t batch_, lanes_;  // B, and padded
  std::vector<Layer> layers_;
};

// Where each of the batch's elements begins in an operand whose leading dimensions are those of the batch or 1.
std::vector<int64_t> offsets(ffi::Span<const int64_t> batch, ffi::Span<const int64_t> dims) {
  int64_t size = 1;
  for (size_t d = batch.size(); d < dims.size(); ++d) size *= dims[d];
  std::vector<int64_t> found = {0};
  int64_t stride = size;
  for (size_t d = batch.size(); d-- > 0;) {
    std::vector<int64_t> longer;
    for (int64_t i = 0; i < batch[d]; ++i)
      for (int64_t offset : found) longer.push_back(offset + (dims[d] == 1 ? 0 : i * stride));
    stride *= dims[d];
    found = std::move(longer);
  }
  return found;
}

// sizes: inputs, hidden widths, classes; steps: H; batch: B.
struct Call {
  std::vector<int64_t> sizes;
  int64_t steps, batch;
};

template <typename Pixel>
void train_all(const Call& call, ffi::AnyBuffer image, ffi::AnyBuffer label, ffi::AnyBuffer rate, ffi::AnyBuffer scale,
               ffi::AnyBuffer shift, const std::vector<ffi::AnyBuffer>& params, ffi::Result<ffi::AnyBuffer> loss,
               std::vector<ffi::Result<ffi::AnyBuffer>>& deltas) {
  const auto batch = loss->dimensions();
  auto places = [&](const ffi::AnyBuffer& x) { return offsets(batch, x.dimensions()); };
  const auto of_image = places(image), of_label = places(label), of_rate = places(rate);
  const auto of_scale = places(scale), of_shift = places(shift);
  std::vector<std::vector<int64_t>> of_params, of_deltas;
  for (const auto& x : params) of_params.push_back(places(x));
  for (auto& x : deltas) of_deltas.push_back(places(*x));
  Client client(call.sizes, call.batch);
  std::vector<const float*> from(params.size());
  std::vector<float*> to(params.size());
  for (size_t i = 0; i < of_image.size(); ++i) {
    for (size_t p = 0; p < params.size(); ++p) {
      from[p] = params[p].typed_data<float>() + of_params[p][i];
      to[p] = deltas[p]->typed_data<float>() + of_deltas[p][i];
    }
    const Batches<Pixel> data = {image.typed_data<Pixel>() + of_image[i], label.typed_data<int32_t>() + of_label[i],
                                 scale.typed_data<float>() + of_scale[i], shift.typed_data<float>() + of_shift[i]};
    loss->typed_data<float>()[i] = client.train(from, data, call.steps, rate.typed_data<float>()[of_rate[i]], to);
  }
}

ffi::Error Train(ffi::AnyBuffer image, ffi::AnyBuffer label, ffi::AnyBuffer rate, ffi::AnyBuffer scale,
                 ffi::AnyBuffer shift, ffi::RemainingArgs others, ffi::Result<ffi::AnyBuffer> loss,
                 ffi::RemainingRets results) {
  std::vector<ffi::AnyBuffer> params;
  std::vector<ffi::Result<ffi::AnyBuffer>> deltas;
  for (size_t i = 0; i < others.size(); ++i) {
    params.push_back(others.get<ffi::AnyBuffer>(i).value());
    deltas.push_back(results.get<ffi::AnyBuffer>(i).value());
  }
  const size_t rank = loss->dimensions().size();
  Call call = {{}, label.dimensions()[rank], label.dimensions()[rank + 1]};
  call.sizes.push_back(image.dimensions()[rank + 2]);
  for (size_t p = 1; p < params.size(); p += 2) call.sizes.push_back(params[p].dimensions()[rank]);
  if (image.element_type() == ffi::U8)
    train_all<uint8_t>(call, image, label, rate, scale, shift, params, loss, deltas);
  else if (image.element_type() == ffi::F32)
    train_all<float>(call, image, label, rate, scale, shift, params, loss, deltas);
  else
    return ffi::Error::InvalidArgument("images must be uint8 or float32");
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(MlpSgd, Train,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets());
