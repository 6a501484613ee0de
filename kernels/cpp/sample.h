// Of the sample from which a pass rate is estimated, those that pass; kernels/sample.py.
#pragma once

#include <cstdint>

#include "meshfold.h"

namespace meshfold {

// How many of the sample pass the filter of a query. sample: what the sampled of `items` items hold.
int64_t sampled(const FilterIndex& sample, const Programs& programs, int64_t query, int64_t items);

}  // namespace meshfold
