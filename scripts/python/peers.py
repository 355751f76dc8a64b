"""The same work in PyTorch, to measure against: python peers.py WORK --attention original|sdpa ... prints seconds.

`original` is the form of the original project: nn.MultiheadAttention with a mask, Adam as it was, sampling that reads
the whole image again for every pixel. `sdpa` is the fastest that PyTorch has ready: scaled_dot_product_attention, fused
Adam, sampling with a cache of keys and values.
"""

import argparse
import time

import torch
from torch.nn import functional as F

import image_gpt


class OriginalBlock(image_gpt.Block):
    def forward(self, h, mask):  # (S, B, D)
        h = self.ln_1(h)
        h = h + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return h + self.mlp(self.ln_2(h))


class OriginalImageGPT(image_gpt.ImageGPT):
    """Sequence first, as nn.MultiheadAttention had it in 2020."""

    def __init__(self):
        super().__init__()
        for layer in self.layers:
            layer.__class__ = OriginalBlock
            layer.attn.batch_first = False

    def features(self, x):  # (B, S) -> (B, S, D)
        length = x.size(1)
        mask = torch.full((length, length), float("-inf")).triu(1)
        e = self.token_embeddings(x)
        h = torch.cat([self.sos.expand(x.size(0), 1, -1), e[:, :-1]], dim=1) + self.position_embeddings.weight[:length]
        h = h.transpose(0, 1)
        for layer in self.layers:
            h = layer(h, mask)
        return h.transpose(0, 1)


class SdpaBlock(image_gpt.Block):
    def qkv(self, h):  # (B, S, D) -> 3 x (B, H, S, d)
        attn = self.attn
        qkv = F.linear(h, attn.in_proj_weight, attn.in_proj_bias)
        return qkv.unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)

    def finish(self, h, attended):
        h = h + self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        return h + self.mlp(self.ln_2(h))

    def forward(self, h):
        h = self.ln_1(h)
        q, k, v = self.qkv(h)
        return self.finish(h, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def decode(self, h, position, keys, values):  # h (B, 1, D)
        h = self.ln_1(h)
        q, keys[:, :, position], values[:, :, position] = (t.squeeze(2) for t in self.qkv(h))
        seen = slice(0, position + 1)
        return self.finish(h, F.scaled_dot_product_attention(q.unsqueeze(2), keys[:, :, seen], values[:, :, seen]))


class SdpaImageGPT(image_gpt.ImageGPT):
    def __init__(self):
        super().__init__()
        for layer in self.layers:
            layer.__class__ = SdpaBlock


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def step(attention, batch, bf16):
    model = OriginalImageGPT() if attention == "original" else SdpaImageGPT()
    adam = torch.optim.Adam(model.parameters(), lr=0.01, fused=attention == "sdpa")
    x = torch.randint(0, 16, (batch, 784))

    def work():
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = image_gpt.generative_loss(model(x), x)
        loss.backward()
        adam.step()

    return work


@torch.no_grad()
def evaluate(model, images, bf16):
    x = torch.randint(0, 16, (images, 784))
    for part in x.split(64):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            image_gpt.generative_loss(model(part), part).item()


@torch.no_grad()
def sample_again_and_again(model, images):
    x = torch.zeros(images, 0, dtype=torch.int64)
    for _ in range(784):
        logits = model(F.pad(x, (0, 1)))[:, -1]
        x = torch.cat([x, torch.multinomial(logits.softmax(-1), 1)], dim=1)


@torch.no_grad()
def sample_with_cache(model, images):
    embed_dim, heads = model.sos.numel(), model.layers[0].attn.num_heads
    keys, values = torch.zeros(2, len(model.layers), images, heads, 784, embed_dim // heads)
    e = model.sos.expand(images, -1)
    for position in range(784):
        h = (e + model.position_embeddings.weight[position]).unsqueeze(1)
        for layer, k, v in zip(model.layers, keys, values):
            h = layer.decode(h, position, k, v)
        token = torch.multinomial(model.head(h.squeeze(1)).softmax(-1), 1).squeeze(1)
        e = model.token_embeddings(token)


def check():
    """The three forms are one model."""
    torch.manual_seed(1)
    plain = image_gpt.ImageGPT()
    x = torch.randint(0, 16, (2, 784))
    expected = plain(x)
    for kind in (OriginalImageGPT, SdpaImageGPT):
        model = kind()
        model.load_state_dict(plain.state_dict())
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)
    keys, values = torch.zeros(2, len(model.layers), 2, 2, 784, 8)
    e = torch.cat([model.sos.expand(2, 1, -1), model.token_embeddings(x[:, :-1])], dim=1)
    with torch.no_grad():
        for position in range(40):
            h = (e[:, position] + model.position_embeddings.weight[position]).unsqueeze(1)
            for layer, k, v in zip(model.layers, keys, values):
                h = layer.decode(h, position, k, v)
            torch.testing.assert_close(model.head(h)[:, 0], expected[:, position], rtol=1e-3, atol=1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["import", "step", "evaluate", "sample", "check"])
    parser.add_argument("--attention", choices=["original", "sdpa"], default="sdpa")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.work == "check":
        check()
    elif a.work == "step":
        work = step(a.attention, a.images, a.bf16)
        work()
        for _ in range(a.repeat):
            print(seconds(work), flush=True)
    elif a.work != "import":
        model = (OriginalImageGPT() if a.attention == "original" else SdpaImageGPT()).eval()
        if a.work == "evaluate":
            evaluate(model, 64, a.bf16)
            print(seconds(lambda: evaluate(model, a.images, a.bf16)))
        else:
            sample = sample_again_and_again if a.attention == "original" else sample_with_cache
            print(seconds(lambda: sample(model, a.images)))


if __name__ == "__main__":
    main()
