#include "native/entry.h"

#include "native/meshfold.h"

namespace meshfold {
namespace {

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

MESHFOLD_API int32_t meshfold_abi() { return meshfold::kAbi; }

// The error of the last failed call of this thread.
MESHFOLD_API const char* meshfold_message() { return meshfold::message.c_str(); }
