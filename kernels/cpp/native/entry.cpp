#include "native/entry.h"

#include "native/meshfold.h"

namespace meshfold {
namespace {

// The error message of this thread's last failed call.
thread_local std::string message;

}  // namespace

void set_message(const char* text) noexcept {
  try {
    message = text;
  } catch (...) {
    message.clear();
  }
}

}  // namespace meshfold

// The version of this C interface, which kernels/native/library.py compares with its own.
MESHFOLD_API int32_t meshfold_abi() { return meshfold::kAbi; }

// The error message of this thread's last failed call; valid until its next failed call.
MESHFOLD_API const char* meshfold_message() { return meshfold::message.c_str(); }
