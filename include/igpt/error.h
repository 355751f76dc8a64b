#pragma once

#include <stdexcept>
#include <string>

#include "igpt/stop_signals.h"

namespace igpt {

/// The work could not be done. The message is one line that a user can act on: what, which file, what to do next.
/// The library throws; the programs print it and exit with 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file or value from outside that is not what it should be.
class InputError : public Error {
 public:
  using Error::Error;
};

/// A model's logits are infinite or not a number.
class LogitsNotFinite : public InputError {
 public:
  LogitsNotFinite()
      : InputError("the model's logits are not finite; its weights are damaged, take an earlier checkpoint") {}
};

/// The command line (or a configuration file) asks for something that does not exist. Exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// A device failed at its work, or reports that it did so earlier.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The user stopped the work. Exit status 128 + signal.
class Interrupted : public Error {
 public:
  explicit Interrupted(int signal_number)
      : Error("interrupted by " + name_of_signal(signal_number)), signal(signal_number) {}
  int signal;  ///< one of kStopSignals
};

}  // namespace igpt
