// The gradient through H steps of SGD on a multilayer perceptron (mlp_sgd.cc): from the gradient a_H of something with
// respect to a client's delta, and c with respect to its mean loss, to those with respect to what it started from.
//
// With W_h the weights before step h and g_h the gradient of its loss,
//
//     a_h = a_{h+1} - rate * H(W_h) a_{h+1} + c / steps * g_h,   of the rate: - sum over h of a_{h+1} . g_h
//
// The Hessian's product with a is a derivative in the direction a (Pearlmutter's R): `v` holds the direction, the
// derivatives of activations and, in the gradients' place, u = rate * R(gradient) - c / steps * gradient. A client's
// steps are computed forward once more, and kept; there is no pass over them for the activations.
//
// Source: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994.

#include <cstdint>
#include <vector>

#include "perceptron.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

class Reverse : public Perceptron {
 public:
  Reverse(const std::vector<int64_t>& sizes, int64_t batch, int64_t steps)
      : Perceptron(sizes, batch), v_(layers()) {
    for (int64_t h = 0; h <= steps; ++h) at_.push_back(layers());
    for (int64_t h = 0; h < steps; ++h) chances_.emplace_back(sizes.back() * lanes_);
  }

  // to <- the gradient with respect to the parameters, less `direction`; returns that with respect to the rate.
  template <typename Pixel>
  float run(const std::vector<const float*>& params, const std::vector<const float*>& direction,
            const Batches<Pixel>& data, float rate, float of_loss, const std::vector<float*>& to) {
    const int64_t steps = chances_.size();
    take(at_[0], params);
    take(v_, direction);
    for (int64_t h = 0; h < steps; ++h) {
      forward<true>(at_[h], data, h, rate, chances_[h].data());
      backward(at_[h], at_[h + 1]);
    }
    double along = 0.0;
    for (int64_t h = steps; h-- > 0;) {
      derive_forward(at_[h]);
      along += derive_measure(data.label + h * batch_, chances_[h].data(), rate, of_loss / steps);
      derive_last(at_[h]);
      for (size_t l = v_.size() - 1; l-- > 0;) derive_backward(at_[h], l);
    }
    give(v_, direction, to);
    return static_cast<float>(-along);
  }

 private:
  static auto stored(float* to, int64_t width) {
    return [=](int64_t row, int64_t column, Vector sum) { store(to + row * width + column, sum); };
  }
  static auto loaded(const float* from, int64_t width) {
    return [=](int64_t row, int64_t column) { return load(from + row * width + column); };
  }

  // The derivatives of the inputs of all layers but the first, whose own is zero, and of the logits.
  void derive_forward(Layers& at) {
    for (size_t l = 0; l + 1 < at.size(); ++l) {
      const float *bias = v_[l].bias.data(), *active = at[l + 1].input.data();
      const int64_t high = at[l].high, wide = at[l].wide;
      float* to = v_[l + 1].input.data();
      const auto masked = [=](int64_t row, int64_t column, Vector sum) {
        store(to + row * wide + column, load(active + row * wide + column) > 0.0f ? sum : Vector{});
      };
      const auto from_bias = [=](int64_t, int64_t column) { return load(bias + column); };
      const AsItLies input = {at[l].input.data(), high};
      if (l == 0) {
        product(input, batch_, at[l].in, v_[l].weights.data(), wide, from_bias, masked);
        continue;
      }
      product(input, batch_, at[l].in, v_[l].weights.data(), wide, from_bias, stored(to, wide));
      product(AsItLies{v_[l].input.data(), high}, batch_, at[l].in, at[l].weights.data(), wide, loaded(to, wide), masked);
    }
    Layer &layer = at.back(), &v = v_.back();
    const float* bias = v.bias.data();
    float* to = v.gradient.data();
    // layer.turned is its input, of the forward pass
    product(
        AsItLies{v.weights.data(), layer.high}, layer.out, layer.in, layer.turned.data(), lanes_,
        [=](int64_t row, int64_t) { return Vector{} + bias[row]; }, stored(to, lanes_));
    if (at.size() == 1) return;
    turn(v.input.data(), lanes_, layer.high, layer.high, v.turned.data(), lanes_);
    product(AsItLies{layer.weights.data(), layer.high}, layer.out, layer.in, v.turned.data(), lanes_, loaded(to, lanes_),
            stored(to, lanes_));
  }

  // The logits' derivative becomes u; returns the derivative of the mean loss in the direction.
  double derive_measure(const int32_t* label, const float* chances, float rate, float of_loss) {
    const int32_t classes = static_cast<int32_t>(v_.back().out);
    const Vector by_rate = Vector{} + rate / batch_, by_loss = Vector{} + of_loss / batch_;
    Vector along = {};
    for (int64_t b = 0; b < batch_; b += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, batch_ - b);
      Ints own = Ints{} - 1;
      std::memcpy(&own, label + b, sizeof(int32_t) * count);
      const float* p = chances + b;
      float* z = v_.back().gradient.data() + b;
      Vector mean = {}, of_own = {};
      for (int32_t c = 0; c < classes; ++c) {
        const Vector derivative = load(z + c * lanes_);
        mean += load(p + c * lanes_) * derivative;
        of_own = own == c ? derivative : of_own;
      }
      along += mean - of_own;
      for (int32_t c = 0; c < classes; ++c) {
        const Vector chance = load(p + c * lanes_), target = own == c ? Vector{} + 1.0f : Vector{};
        store(z + c * lanes_, by_rate * chance * (load(z + c * lanes_) - mean) - by_loss * (chance - target));
      }
    }
    return sum_of(along) / batch_;
  }

  void derive_last(Layers& at) {
    Layer &layer = at.back(), &v = v_.back();
    const float *u = v.gradient.data(), *gradient = layer.gradient.data();
    if (at.size() > 1) {
      give_below(at, at.size() - 1, Turned{u, lanes_}, layer.weights.data(), Turned{gradient, lanes_}, v.weights.data());
      step(AsItLies{gradient, lanes_}, layer.out, v.input.data(), layer.high, v.weights.data(), v.weights.data());
    }
    step(AsItLies{u, lanes_}, layer.out, layer.input.data(), layer.high, v.weights.data(), v.weights.data());
    step_bias_last(layer, u, v.bias.data(), v.bias.data());
  }

  void derive_backward(Layers& at, size_t l) {
    Layer &layer = at[l], &v = v_[l];
    const float *u = v.gradient.data(), *gradient = layer.gradient.data();
    const int64_t high = layer.high, wide = layer.wide;
    if (l) {
      turn(v.weights.data(), high, wide, wide, v.turned.data(), high);
      // layer.turned are its weights, of the backward pass
      give_below(at, l, AsItLies{u, wide}, layer.turned.data(), AsItLies{gradient, wide}, v.turned.data());
      step(Turned{v.input.data(), high}, layer.in, gradient, wide, v.weights.data(), v.weights.data());
    }
    step(Turned{layer.input.data(), high}, layer.in, u, wide, v.weights.data(), v.weights.data());
    step_bias(layer, u, v.bias.data(), v.bias.data());
  }

  // The u of layer l - 1: u weights + gradient v, where the unit is active.
  template <typename Left>
  void give_below(Layers& at, size_t l, Left u, const float* weights, Left gradient, const float* v) {
    const int64_t high = at[l].high;
    const float* active = at[l].input.data();
    float* to = v_[l - 1].gradient.data();
    product(u, batch_, at[l].out, weights, high, [](int64_t, int64_t) { return Vector{}; }, stored(to, high));
    product(gradient, batch_, at[l].out, v, high, loaded(to, high), [=](int64_t row, int64_t column, Vector sum) {
      store(to + row * high + column, load(active + row * high + column) > 0.0f ? sum : Vector{});
    });
  }

  std::vector<Layers> at_;  // before each step and after the last
  Layers v_;
  std::vector<Buffer> chances_;  // softmax [out, B] of each step
};

// others: the parameters, then the gradient with respect to each one's delta.
ffi::Error GradientThrough(ffi::AnyBuffer image, ffi::AnyBuffer label, ffi::AnyBuffer rate, ffi::AnyBuffer scale,
                           ffi::AnyBuffer shift, ffi::AnyBuffer of_loss, ffi::RemainingArgs others,
                           ffi::Result<ffi::AnyBuffer> of_rate, ffi::RemainingRets results) {
  if (image.element_type() != ffi::U8) return ffi::Error::InvalidArgument("images must be uint8");
  const auto batch = of_rate->dimensions();
  const size_t rank = batch.size(), count = results.size();
  std::vector<const float*> starts(2 * count), from(count), direction(count);
  std::vector<float*> outs(count), to(count);
  std::vector<std::vector<int64_t>> places(2 * count), out_places(count);
  std::vector<int64_t> sizes = {image.dimensions()[rank + 2]};
  for (size_t p = 0; p < 2 * count; ++p) {
    ffi::AnyBuffer x = others.get<ffi::AnyBuffer>(p).value();
    starts[p] = x.typed_data<float>(), places[p] = offsets(batch, x.dimensions());
    if (p < count && p % 2) sizes.push_back(x.dimensions()[rank]);
  }
  for (size_t p = 0; p < count; ++p) {
    ffi::Result<ffi::AnyBuffer> x = results.get<ffi::AnyBuffer>(p).value();
    outs[p] = x->typed_data<float>(), out_places[p] = offsets(batch, x->dimensions());
  }
  const auto of_image = offsets(batch, image.dimensions()), of_label = offsets(batch, label.dimensions());
  const auto of_scale = offsets(batch, scale.dimensions()), of_shift = offsets(batch, shift.dimensions());
  const auto rates = offsets(batch, rate.dimensions()), losses = offsets(batch, of_loss.dimensions());
  Reverse reverse(sizes, label.dimensions()[rank + 1], label.dimensions()[rank]);
  for (size_t i = 0; i < of_image.size(); ++i) {
    for (size_t p = 0; p < count; ++p) {
      from[p] = starts[p] + places[p][i];
      direction[p] = starts[count + p] + places[count + p][i];
      to[p] = outs[p] + out_places[p][i];
    }
    const Batches<uint8_t> data = {image.typed_data<uint8_t>() + of_image[i], label.typed_data<int32_t>() + of_label[i],
                                   scale.typed_data<float>() + of_scale[i], shift.typed_data<float>() + of_shift[i]};
    of_rate->typed_data<float>()[i] = reverse.run(from, direction, data, rate.typed_data<float>()[rates[i]],
                                                  of_loss.typed_data<float>()[losses[i]], to);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(MlpSgdBack, GradientThrough,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets());
