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
#include <memory>
#include <utility>
#include <vector>

#include "vectors.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

// Of a tile of sums in registers.
constexpr int kRows = kManyRegisters ? 12 : 6, kVectors = 2;

int64_t padded(int64_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// A matrix of scalars that a product reads one by one, of any layout.
struct Left {
  const float* at;
  int64_t row, inner;  // strides
};

// A product of matrices, added to what `first` gives, given to `out`, a vector at a time:
// out(row, column, first(row, column) + sum over k of left[row, k] * right[k, column ...]).
// left is [rows, inner]; right [inner, width] with `width` a multiple of kLanes.
template <typename First, typename Out>
struct Product {
  Left left;
  int64_t rows, inner;
  const float* right;
  int64_t width;
  First first;
  Out out;

  // R rows and V vectors of columns, whose sums stay in registers.
  template <int R, int V>
  void tile(int64_t row, int64_t column) const {
    Vector sums[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sums[r][v] = first(row + r, column + v * kLanes);
    const float* a = left.at + row * left.row;
    const float* b = right + column;
    for (int64_t k = 0; k < inner; ++k, a += left.inner, b += width) {
      Vector in[V];
      for (int v = 0; v < V; ++v) {
        in[v] = load(b + v * kLanes);
        keep(in[v]);
      }
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] += a[r * left.row] * in[v];
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) out(row + r, column + v * kLanes, sums[r][v]);
  }

  // The rows that are left over when whole tiles are done: fewer than kRows.
  template <int V, int... R>
  void rest(std::integer_sequence<int, R...>, int64_t row, int64_t column) const {
    ((rows - row == R + 1 ? tile<R + 1, V>(row, column) : void()), ...);
  }

  template <int V>
  void columns(int64_t column) const {
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) tile<kRows, V>(row, column);
    rest<V>(std::make_integer_sequence<int, kRows - 1>{}, row, column);
  }

  void run() const {
    int64_t column = 0;
    for (; column + kVectors * kLanes <= width; column += kVectors * kLanes) columns<kVectors>(column);
    if (column < width) columns<1>(column);
  }
};

template <typename First, typename Out>
void product(Left left, int64_t rows, int64_t inner, const float* right, int64_t width, First first, Out out) {
  Product<First, Out>{left, rows, inner, right, width, first, out}.run();
}

// to [out, width] <- the transpose of from [in, out], whose rows are `wide` apart; width is `in`, padded.
void turn(const float* from, int64_t in, int64_t out, int64_t wide, float* to, int64_t width) {
  for (int64_t i = 0; i < in; i += kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, in - i));
    for (int64_t j = 0; j < out; ++j) {
      alignas(64) float column[kLanes] = {};
      for (int r = 0; r < lanes; ++r) column[r] = from[(i + r) * wide + j];
      std::memcpy(to + j * width + i, column, sizeof column);
    }
  }
}

// A layer of the client's model: weights [in, wide], bias [wide]; for a whole batch, its inputs and `rate` times the
// loss's gradient with respect to its outputs.
struct Layer {
  Layer(int64_t inputs, int64_t outputs, int64_t batch)
      : in(inputs), out(outputs), wide(padded(outputs)), weights(in * wide), bias(wide), gradient(batch * wide),
        turned(out * padded(in)) {}
  int64_t in, out, wide;
  Buffer weights, bias, gradient, turned;
  Buffer* input = nullptr;
  int64_t input_width = 0;
};

template <int N>
struct Lanes {
  typedef float Type __attribute__((vector_size(N * sizeof(float))));
};

// The lanes of a vector combined by an associative rule, by halves.
template <int N = kLanes, typename Rule>
inline float fold(typename Lanes<N>::Type v, const Rule& rule) {
  if constexpr (N == 4) {
    return rule(rule(v[0], v[1]), rule(v[2], v[3]));
  } else {
    typename Lanes<N / 2>::Type halves[2];
    std::memcpy(halves, &v, sizeof v);
    return fold<N / 2>(rule(halves[0], halves[1]), rule);
  }
}

constexpr auto greater = [](auto x, auto y) { return x > y ? x : y; };
constexpr auto sum_of = [](auto x, auto y) { return x + y; };

// What a client trains with.
template <typename Pixel>
struct Batches {
  const Pixel* image;    // [H, B, in]
  const int32_t* label;  // [H, B]
  const float *scale, *shift;  // [in]
};

class Client {
 public:
  Client(const std::vector<int64_t>& sizes, int64_t batch) : batch_(batch), classes_(sizes.back()) {
    for (size_t l = 0; l + 1 < sizes.size(); ++l) layers_.emplace_back(sizes[l], sizes[l + 1], batch);
    for (size_t l = 0; l < layers_.size(); ++l) {
      const int64_t width = l ? layers_[l - 1].wide : layers_[l].in;
      inputs_.push_back(std::make_unique<Buffer>(batch * width));
      layers_[l].input = inputs_.back().get();
      layers_[l].input_width = width;
    }
  }

  // Mean loss over the steps; each is measured before its step.
  template <typename Pixel>
  float train(const std::vector<const float*>& params, const Batches<Pixel>& data, int64_t steps, float rate,
              const std::vector<float*>& delta) {
    for (size_t l = 0; l < layers_.size(); ++l) take(layers_[l], params[2 * l], params[2 * l + 1]);
    double loss = 0.0;
    for (int64_t h = 0; h < steps; ++h) {
      take_images(data, h);
      for (size_t l = 0; l < layers_.size(); ++l) forward(l);
      loss += measure(data.label + h * batch_, rate);
      for (size_t l = layers_.size(); l-- > 0;) backward(l);
    }
    for (size_t l = 0; l < layers_.size(); ++l)
      give(layers_[l], params[2 * l], params[2 * l + 1], delta[2 * l], delta[2 * l + 1]);
    return static_cast<float>(loss / steps);
  }

 private:
  void take(Layer& layer, const float* weights, const float* bias) {
    for (int64_t i = 0; i < layer.in; ++i)
      std::memcpy(layer.weights.data() + i * layer.wide, weights + i * layer.out, sizeof(float) * layer.out);
    std::memcpy(layer.bias.data(), bias, sizeof(float) * layer.out);
  }

  void give(Layer& layer, const float* weights, const float* bias, float* weights_delta, float* bias_delta) {
    for (int64_t i = 0; i < layer.in; ++i)
      for (int64_t j = 0; j < layer.out; ++j)
        weights_delta[i * layer.out + j] = layer.weights.data()[i * layer.wide + j] - weights[i * layer.out + j];
    for (int64_t j = 0; j < layer.out; ++j) bias_delta[j] = layer.bias.data()[j] - bias[j];
  }

  template <typename Pixel>
  void take_images(const Batches<Pixel>& data, int64_t h) {
    const int64_t in = layers_[0].in;
    const Pixel* image = data.image + h * batch_ * in;
    float* x = layers_[0].input->data();
    for (int64_t b = 0; b < batch_; ++b)
      for (int64_t i = 0; i < in; ++i)
        x[b * in + i] = static_cast<float>(image[b * in + i]) * data.scale[i] - data.shift[i];
  }

  void forward(size_t l) {
    Layer& layer = layers_[l];
    const bool last = l + 1 == layers_.size();
    float* to = last ? layer.gradient.data() : layers_[l + 1].input->data();
    const float* bias = layer.bias.data();
    const int64_t wide = layer.wide;
    const Left x = {layer.input->data(), layer.input_width, 1};
    product(
        x, batch_, layer.in, layer.weights.data(), wide, [=](int64_t, int64_t column) { return load(bias + column); },
        [=](int64_t row, int64_t column, Vector z) { store(to + row * wide + column, last ? z : relu(z)); });
  }

  // The mean loss; the last layer's gradient, which held the logits, becomes rate * (softmax - one-hot) / B. All
  // gradients are in proportion, so that each is a step.
  double measure(const int32_t* label, float rate) {
    Layer& layer = layers_.back();
    const float share = rate / batch_;
    const Vector none = Vector{} - std::numeric_limits<float>::infinity();
    Ints lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    double loss = 0.0, sums = 1.0;
    for (int64_t b = 0; b < batch_; ++b) {
      float* z = layer.gradient.data() + b * layer.wide;
      const int32_t classes = classes_, own = label[b];
      loss -= 0 <= own && own < classes ? z[own] : std::numeric_limits<float>::quiet_NaN();
      Vector most = none;
      for (int32_t j = 0; j < classes; j += kLanes)
        most = greater(lane < classes - j ? load(z + j) : none, most);
      const float top = fold(most, greater);
      Vector sum = {};
      for (int32_t j = 0; j < classes; j += kLanes) {
        const Vector e = lane < classes - j ? exponential(load(z + j) - top) : Vector{};
        store(z + j, e);
        sum += e;
      }
      const float whole = fold(sum, sum_of), scale = share / whole;
      for (int32_t j = 0; j < classes; j += kLanes)
        store(z + j, load(z + j) * scale - (lane == own - j ? Vector{} + share : Vector{}));
      loss += top;
      sums *= whole;  // one logarithm for many examples
      if (!(sums < 1e200)) loss += std::log(sums), sums = 1.0;
    }
    return (loss + std::log(sums)) / batch_;
  }

  // rate times the gradient with respect to the layer's inputs, then its own step.
  void backward(size_t l) {
    Layer& layer = layers_[l];
    const float* gradient = layer.gradient.data();
    const int64_t wide = layer.wide;
    if (l) {
      const int64_t width = layer.input_width;
      float *turned = layer.turned.data(), *to = layers_[l - 1].gradient.data();
      turn(layer.weights.data(), layer.in, layer.out, wide, turned, width);
      const float* active = layer.input->data();
      product(
          {gradient, wide, 1}, batch_, layer.out, turned, width, [](int64_t, int64_t) { return Vector{}; },
          [=](int64_t row, int64_t column, Vector sum) {
            store(to + row * width + column, load(active + row * width + column) > 0.0f ? sum : Vector{});
          });
    }
    float *weights = layer.weights.data(), *bias = layer.bias.data();
    // Summed before it is subtracted: each of the batch's terms alone would be rounded as the weights are.
    product(
        {layer.input->data(), 1, layer.input_width}, layer.in, batch_, gradient, wide,
        [](int64_t, int64_t) { return Vector{}; },
        [=](int64_t row, int64_t column, Vector step) {
          float* w = weights + row * wide + column;
          store(w, load(w) - step);
        });
    for (int64_t j = 0; j < wide; j += kLanes) {
      Vector sum = {};
      for (int64_t b = 0; b < batch_; ++b) sum += load(gradient + b * wide + j);
      store(bias + j, load(bias + j) - sum);
    }
  }

  int64_t batch_, classes_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<Buffer>> inputs_;
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
