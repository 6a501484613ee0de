// The number of sampled items that pass a filter, an estimate of its pass rate; kernels/search/sample.py.
#pragma once

#include <cstdint>

#include "native/meshfold.h"

namespace meshfold {

// Items of the sample that pass the filter of a query. sample: the values of the sampled items. items: N.
int64_t sampled(const FilterIndex& sample, const FilterBatch& filters, int64_t query, int64_t items);

}  // namespace meshfold
