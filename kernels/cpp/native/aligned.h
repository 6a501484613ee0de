// Uninitialised memory aligned to a cache line.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace meshfold {

struct Freed {
  void operator()(void* held) const { ::operator delete[](held, std::align_val_t(64)); }
};

template <class Value>
using Room = std::unique_ptr<Value[], Freed>;

template <class Value>
Room<Value> room(int64_t count) {
  return Room<Value>(static_cast<Value*>(::operator new[](sizeof(Value) * count, std::align_val_t(64))));
}

}  // namespace meshfold
