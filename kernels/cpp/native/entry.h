// Return codes and error messages of entry points, which Python turns into exceptions.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace meshfold {

constexpr int kSuccess = 0, kInvalid = 1, kOutOfMemory = 2, kBroken = 3;

// An invalid argument; the message says which and why.
struct Invalid : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Keeps the error message of a failed call for meshfold_message().
void set_message(const char* message) noexcept;

// Runs the body of an entry point; no exception leaves it.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return kSuccess;
  } catch (const Invalid& error) {
    set_message(error.what());
    return kInvalid;
  } catch (const std::bad_alloc&) {
    set_message("out of memory");
    return kOutOfMemory;
  } catch (const std::exception& error) {
    set_message(error.what());
    return kBroken;
  }
}

}  // namespace meshfold
