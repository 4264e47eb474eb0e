// What XLA gives a kernel: arrays of floats whose leading dimensions are a batch (inner problems, antithetic arms).

#ifndef LEARNED_AGGREGATION_OPERANDS_H_
#define LEARNED_AGGREGATION_OPERANDS_H_

#include <cstddef>
#include <cstdint>

#include "xla/ffi/api/ffi.h"

namespace learned_aggregation {

using F32 = xla::ffi::Buffer<xla::ffi::F32>;
using Out = xla::ffi::ResultBuffer<xla::ffi::F32>;

// The batch of a call: the dimensions of `like` before its last `inner` ones.
struct Batch {
  Batch(const F32& like, size_t inner) : rank(like.dimensions().size() - inner) {
    for (size_t d = 0; d < rank; ++d) size *= like.dimensions()[d];
  }
  // Dimension d of one element.
  int64_t dimension(const F32& x, size_t d) const { return x.dimensions()[rank + d]; }
  // The elements of the batch's i-th.
  float* at(const F32& x, int64_t i) const {
    int64_t stride = 1;
    for (size_t d = rank; d < x.dimensions().size(); ++d) stride *= x.dimensions()[d];
    return x.typed_data() + i * stride;
  }
  float* at(Out& x, int64_t i) const { return at(*x, i); }
  size_t rank;
  int64_t size = 1;
};

}  // namespace learned_aggregation

#endif
