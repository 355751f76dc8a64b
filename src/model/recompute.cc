#include "igpt/model/recompute.h"

#include <ATen/autocast_mode.h>

#include "igpt/libtorch.h"
#include "igpt/model/autocast.h"

namespace igpt {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Work = std::function<at::Tensor(const at::Tensor& x)>;

struct HeldWork : torch::CustomClassHolder {
  explicit HeldWork(Work held) : work(std::move(held)) {}
  Work work;
};

struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<HeldWork>& held, const at::Tensor& x) {
    context->save_for_backward({x});
    context->saved_data["work"] = c10::IValue::make_capsule(held);
    context->saved_data["bf16"] = at::autocast::is_autocast_enabled(x.device().type());  // of this thread
    return held->work(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto held = c10::static_intrusive_pointer_cast<HeldWork>(context->saved_data["work"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    const auto x = context->get_saved_variables()[0].detach().requires_grad_(true);
    at::Tensor result;
    {
      const Bf16Autocast autocast(x.device().type(), context->saved_data["bf16"].toBool());
      result = held->work(x);
    }
    torch::autograd::backward({result}, {gradients[0]});
    return {at::Tensor(), x.grad()};
  }
};

}  // namespace

at::Tensor recomputed(Work work, const at::Tensor& x) {
  return Recomputed::apply(c10::make_intrusive<HeldWork>(std::move(work)), x);
}

}  // namespace igpt
