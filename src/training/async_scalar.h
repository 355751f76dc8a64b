#pragma once

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

#include "igpt/libtorch.h"

namespace igpt::training {

/// The present value of a scalar on a device, to be read later: get() waits for the work that the device had been given
/// before construction, not for what came after.
class AsyncScalar {
 public:
  explicit AsyncScalar(const torch::Tensor& number)
      : copy_(torch::empty({}, torch::dtype(number.scalar_type()).pinned_memory(number.is_cuda()))) {
    copy_.copy_(number, /*non_blocking=*/true);
    if (!number.is_cuda()) return;
    copied_.emplace(number.device().type());
    copied_->record(c10::impl::VirtualGuardImpl(number.device().type()).getStream(number.device()));
  }

  double get() const {
    if (copied_) copied_->synchronize();
    return copy_.item<double>();
  }

 private:
  torch::Tensor copy_;  // float scalar, on the CPU
  std::optional<c10::Event> copied_;
};

}  // namespace igpt::training
