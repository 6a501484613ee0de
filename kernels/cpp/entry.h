// How an entry point ends: 0, or a code and a message that Python turns into an exception.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace meshfold {

constexpr int kFine = 0, kInvalid = 1, kOutOfMemory = 2, kBroken = 3;

// What the caller gave is wrong; the message says what.
struct Invalid : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void say(const char* message) noexcept;

// Runs the body of an entry point; no exception leaves it.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return kFine;
  } catch (const Invalid& error) {
    say(error.what());
    return kInvalid;
  } catch (const std::bad_alloc&) {
    say("out of memory");
    return kOutOfMemory;
  } catch (const std::exception& error) {
    say(error.what());
    return kBroken;
  }
}

}  // namespace meshfold
