#!/usr/bin/env python3
"""Writes tests/golden/hugging_face/*/: folders of transformers' ImageGPT, and what it computes in expected.pt.

Run with a Python that has torch and transformers: python tests/golden/make_golden_hugging_face.py
"""

import json
import pathlib

import torch
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling, ImageGPTForImageClassification

FOLDER = pathlib.Path(__file__).parent / "hugging_face"
BATCH = 3


def config_of(side, vocab, **options):
    return ImageGPTConfig(n_positions=side**2, vocab_size=vocab + 1, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0, **options)


def randomise(model):
    """Weights that matter, biases and gains among them."""
    for name, parameter in model.named_parameters():
        parameter.data.normal_(0, 0.3)
        if ".ln_" in name:
            parameter.data += 1
    return model.eval()


def write(name, model, clusters, as_bin=False):
    folder = FOLDER / name
    model.save_pretrained(folder)
    processor = {"image_processor_type": "ImageGPTImageProcessor", "clusters": clusters, "do_color_quantize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    if as_bin:  # as older versions have them, with causal masks among the weights
        state = model.state_dict()
        side = model.config.n_positions
        for i in range(model.config.n_layer):
            state[f"transformer.h.{i}.attn.bias"] = torch.tril(torch.ones(1, 1, side, side, dtype=torch.bool))
            state[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    (folder / "generation_config.json").unlink(missing_ok=True)
    vocab = model.config.vocab_size - 1
    tokens = torch.randint(vocab, (BATCH, model.config.n_positions))
    shifted = torch.cat([torch.full((BATCH, 1), vocab), tokens[:, :-1]], 1)
    is_classifier = isinstance(model, ImageGPTForImageClassification)
    with torch.no_grad():
        logits = model(tokens if is_classifier else shifted).logits
    torch.save({"tokens": tokens, "logits": logits.contiguous()}, folder / "expected.pt")


torch.manual_seed(1)
colours = (torch.randint(256, (5, 3)) / 127.5 - 1).tolist()
write("generator", randomise(ImageGPTForCausalImageModeling(config_of(
    4, 5, n_embd=8, n_head=2, n_layer=3, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True))), colours)
write("unscaled", randomise(ImageGPTForCausalImageModeling(config_of(
    5, 16, n_embd=24, n_head=3, n_layer=1, scale_attn_weights=False))), [[k / 7.5 - 1] * 3 for k in range(16)])
write("classifier", randomise(ImageGPTForImageClassification(config_of(
    4, 5, n_embd=8, n_head=2, n_layer=2, num_labels=4))), torch.rand(5, 3).mul(2).sub(1).tolist(), as_bin=True)
