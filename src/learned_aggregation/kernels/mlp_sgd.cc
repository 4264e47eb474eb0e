// H steps of SGD on a multilayer perceptron with ReLU and softmax cross-entropy: one client's local training, fused.
//
// A client's weights, activations and gradients stay in the caches over all of its steps, and a layer's gradient goes
// from the registers into its weights; XLA's CPU backend writes each array of all clients to memory and reads it back.

#include <cstdint>
#include <vector>

#include "perceptron.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace learned_aggregation;

namespace {

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
  const Perceptron model(call.sizes, call.batch);
  Layers layers = model.layers();
  std::vector<const float*> from(params.size());
  std::vector<float*> to(params.size());
  for (size_t i = 0; i < of_image.size(); ++i) {
    for (size_t p = 0; p < params.size(); ++p) {
      from[p] = params[p].typed_data<float>() + of_params[p][i];
      to[p] = deltas[p]->typed_data<float>() + of_deltas[p][i];
    }
    const Batches<Pixel> data = {image.typed_data<Pixel>() + of_image[i], label.typed_data<int32_t>() + of_label[i],
                                 scale.typed_data<float>() + of_scale[i], shift.typed_data<float>() + of_shift[i]};
    model.take(layers, from);
    double total = 0.0;  // each step's loss is measured before it
    for (int64_t h = 0; h < call.steps; ++h) {
      total += model.forward(layers, data, h, rate.typed_data<float>()[of_rate[i]]);
      model.backward(layers, layers);
    }
    model.give(layers, from, to);
    loss->typed_data<float>()[i] = static_cast<float>(total / call.steps);
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
