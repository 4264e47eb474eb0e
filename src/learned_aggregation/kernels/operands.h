// What XLA gives a kernel: arrays whose leading dimensions are a batch (clients, inner problems, antithetic arms).

#ifndef LEARNED_AGGREGATION_OPERANDS_H_
#define LEARNED_AGGREGATION_OPERANDS_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

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

// Where each of the batch's elements begins in an operand whose leading dimensions are those of the batch or 1.
inline std::vector<int64_t> offsets(xla::ffi::Span<const int64_t> batch, xla::ffi::Span<const int64_t> dims) {
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

}  // namespace learned_aggregation

#endif
