#include "igpt/model/autocast.h"

#include <ATen/autocast_mode.h>

namespace igpt {

Bf16Autocast::Bf16Autocast(c10::DeviceType device, bool enabled)
    : device_(device),
      enabled_(enabled),
      previously_enabled_(at::autocast::is_autocast_enabled(device)),
      previous_dtype_(at::autocast::get_autocast_dtype(device)) {
  if (!enabled_) return;
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::increment_nesting();
}

Bf16Autocast::~Bf16Autocast() {
  if (!enabled_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();  // else the next step uses old weights
  at::autocast::set_autocast_enabled(device_, previously_enabled_);
  at::autocast::set_autocast_dtype(device_, previous_dtype_);
}

}  // namespace igpt
