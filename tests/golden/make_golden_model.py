#!/usr/bin/env python3
"""Writes tests/golden/model/*.pt: what PyTorch computes, for the C++ tests to compare with.

For each configuration: weights, tokens, logits, loss, every gradient, features of the layers, class logits, and the losses of ten steps of
training with torch.optim.Adam. And muon.pt: what two updates of torch.optim.Muon make of matrices. Run with a Python that has torch: .venv/bin/python tests/golden/make_golden_model.py
"""

import copy
import pathlib
import sys

import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "python"))
from image_gpt import ImageGPT, generative_loss  # noqa: E402

CONFIGURATIONS = {
    "small": dict(embed_dim=8, num_heads=2, num_layers=2, num_pixels=5, num_vocab=5, num_classes=3),
    "default_7x7": dict(embed_dim=16, num_heads=2, num_layers=8, num_pixels=7, num_vocab=16, num_classes=10),
    "wide": dict(embed_dim=24, num_heads=3, num_layers=1, num_pixels=4, num_vocab=7, num_classes=4),
    "small_2d": dict(arch="image-gpt-2d", neighbours=12, embed_dim=8, num_heads=2, num_layers=2, num_pixels=5,
                     num_vocab=5, num_classes=3),
    "small_norm": dict(final_norm=True, embed_dim=8, num_heads=2, num_layers=2, num_pixels=5, num_vocab=5, num_classes=3),
    "small_2d_plain": dict(arch="image-gpt-2d", final_norm=False, neighbours=12, embed_dim=8, num_heads=2, num_layers=2,
                           num_pixels=5, num_vocab=5, num_classes=3),
    "small_igpt": dict(arch="igpt", embed_dim=8, num_heads=2, num_layers=2, num_pixels=5, num_vocab=5, num_classes=3),
    "small_conv": dict(arch="image-gpt-2d", neighbours=5, table_rank=3, conv_taps=12, embed_dim=8, num_heads=2, num_layers=2, num_pixels=5,
                       num_vocab=5, num_classes=3),
}
STEPS, BATCH = 10, 4


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def training_losses(model, batches, loss_of):
    model = copy.deepcopy(model)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for batch in batches:
        adam.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    return torch.tensor(losses, dtype=torch.float64), weights


def golden(options, seed):
    torch.manual_seed(seed)
    model = ImageGPT(**options)
    for name, parameter in model.named_parameters():  # so that no bias, gain or convolution is 0 or 1 by its initial value
        if parameter.dim() == 1 or name.endswith("conv.weight"):
            parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randint(0, options["num_vocab"], (STEPS, BATCH, options["num_pixels"] ** 2))
    y = torch.randint(0, options["num_classes"], (STEPS, BATCH))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    logits = model(x[0])
    loss = generative_loss(logits, x[0])
    loss.backward()
    result = dict(options=options, weights=weights, x=x.to(torch.uint8), y=y, logits=logits.detach(),
                  loss=loss.item(), gradients=gradients(model), layer_features=model.layer_features(x[0]).detach())
    model.zero_grad()
    class_logits = model.classify(x[0])
    F.cross_entropy(class_logits, y[0]).backward()
    result |= dict(class_logits=class_logits.detach(), class_gradients=gradients(model))
    model.zero_grad()
    result["training_losses"], result["trained_weights"] = training_losses(
        model, x, lambda m, batch: generative_loss(m(batch), batch))
    result["class_training_losses"], _ = training_losses(
        model, list(zip(x, y)), lambda m, batch: F.cross_entropy(m.classify(batch[0]), batch[1]))
    return result


def golden_muon():
    torch.manual_seed(0)
    result = dict(weights={}, gradients={}, trained_weights={})
    for rows, columns in ((16, 16), (32, 8), (8, 32)):
        name = f"{rows}x{columns}"
        weights = torch.nn.Parameter(torch.randn(rows, columns))
        result["weights"][name] = weights.detach().clone()
        result["gradients"][name] = torch.randn(2, rows, columns)
        muon = torch.optim.Muon([weights], lr=0.02, weight_decay=0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        for gradient in result["gradients"][name]:
            weights.grad = gradient
            muon.step()
        result["trained_weights"][name] = weights.detach().clone()
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = pathlib.Path(__file__).resolve().parent / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, options) in enumerate(CONFIGURATIONS.items()):
        torch.save(golden(options, seed=index), folder / f"{name}.pt")
    torch.save(golden_muon(), folder / "muon.pt")
