"""The same work in PyTorch, to measure against: python peers.py WORK --form FORM ... prints seconds.

`original` is the form of the original project: nn.MultiheadAttention with a mask, Adam as it was, sampling that reads
the whole image again for every pixel. `sdpa` is the fastest that PyTorch has ready: scaled_dot_product_attention, fused
Adam, sampling with a cache of keys and values. `compiled` is that with torch.compile, `graph` (CUDA only) with its
launches recorded and repeated as a CUDA graph.
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

    def decode_anywhere(self, h, position, seen, keys, values):  # position (1), seen (S) bool: both change in place
        h = self.ln_1(h)
        q, k, v = self.qkv(h)
        keys.index_copy_(2, position, k)
        values.index_copy_(2, position, v)
        return self.finish(h, F.scaled_dot_product_attention(q, keys, values, attn_mask=seen.unsqueeze(0)))


class SdpaImageGPT(image_gpt.ImageGPT):
    def __init__(self):
        super().__init__()
        for layer in self.layers:
            layer.__class__ = SdpaBlock


def seconds(work):
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def wait():
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()


def model_of(form):
    return OriginalImageGPT() if form == "original" else SdpaImageGPT()


def repeatable(work, form):
    """Work without arguments in the form in which it is repeated."""
    if form == "compiled":
        return torch.compile(work)
    if form != "graph":
        return work
    beside = torch.cuda.Stream()
    with torch.cuda.stream(beside):
        for _ in range(3):  # what is set up at first
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def step(form, batch, bf16):
    model = model_of(form)
    adam = torch.optim.Adam(model.parameters(), lr=0.01, fused=form != "original", capturable=form == "graph")
    x = torch.randint(0, 16, (batch, 784))

    def loss():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            return image_gpt.generative_loss(model(x), x)

    if form == "compiled":
        loss = torch.compile(loss)

    def work():
        adam.zero_grad(set_to_none=form != "graph")
        loss().backward()
        adam.step()

    return repeatable(work, "graph") if form == "graph" else work


@torch.no_grad()
def evaluation(form, bf16, batch=64):
    """Of so many images at a time, which are copied to where they are read."""
    model, x = model_of(form).eval(), torch.zeros(batch, 784, dtype=torch.int64)
    result = torch.zeros(())

    @torch.no_grad()
    def forward():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            result.copy_(image_gpt.generative_loss(model(x), x))

    forward = repeatable(forward, form)

    def evaluate(images):
        total = torch.zeros(())
        for part in torch.randint(0, 16, (images, 784)).split(batch):
            x[:len(part)] = part
            forward()
            total += result
        total.item()

    return evaluate


@torch.no_grad()
def sample_again_and_again(model, images):
    x = torch.zeros(images, 0, dtype=torch.int64)
    for _ in range(784):
        logits = model(F.pad(x, (0, 1)))[:, -1]
        x = torch.cat([x, torch.multinomial(logits.softmax(-1), 1)], dim=1)


def keys_and_values(model, images):
    embed_dim, heads = model.sos.numel(), model.layers[0].attn.num_heads
    return torch.zeros(2, len(model.layers), images, heads, 784, embed_dim // heads)


@torch.no_grad()
def sample_with_cache(model, images):
    keys, values = keys_and_values(model, images)
    e = model.sos.expand(images, -1)
    for position in range(784):
        h = (e + model.position_embeddings.weight[position]).unsqueeze(1)
        for layer, k, v in zip(model.layers, keys, values):
            h = layer.decode(h, position, k, v)
        token = torch.multinomial(model.head(h.squeeze(1)).softmax(-1), 1).squeeze(1)
        e = model.token_embeddings(token)


@torch.no_grad()
def sampler(model, images, form):
    """sample_with_cache with one pixel as work that is repeated: places and lengths are contents of tensors."""
    keys, values = keys_and_values(model, images)
    position, seen = torch.zeros(1, dtype=torch.int64), torch.zeros(784, dtype=torch.bool)
    e = torch.zeros(images, model.sos.numel())

    @torch.no_grad()
    def pixel():
        seen.index_fill_(0, position, True)
        h = (e + model.position_embeddings(position)).unsqueeze(1)
        for layer, k, v in zip(model.layers, keys, values):
            h = layer.decode_anywhere(h, position, seen, k, v)
        token = torch.multinomial(model.head(h.squeeze(1)).softmax(-1), 1).squeeze(1)
        e.copy_(model.token_embeddings(token))
        position.add_(1)

    pixel = repeatable(pixel, form)

    @torch.no_grad()
    def sample():
        position.zero_()
        seen.zero_()
        e.copy_(model.sos.detach())
        for _ in range(784):
            pixel()

    return sample


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
        keys, values = keys_and_values(model, 2)
        seen = torch.zeros(784, dtype=torch.bool)
        for position in range(40):
            seen[position] = True
            h = (e[:, position] + model.position_embeddings.weight[position]).unsqueeze(1)
            for layer, k, v in zip(model.layers, keys, values):
                h = layer.decode_anywhere(h, torch.tensor([position]), seen, k, v)
            torch.testing.assert_close(model.head(h)[:, 0], expected[:, position], rtol=1e-3, atol=1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["import", "step", "evaluate", "sample", "check"])
    parser.add_argument("--form", choices=["original", "sdpa", "compiled", "graph"], default="sdpa")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.set_default_device(a.device)
    if a.work == "check":
        check()
    elif a.work == "step":
        work = step(a.form, a.images, a.bf16)
        work()
        for _ in range(a.repeat):
            print(seconds(work), flush=True)
    elif a.work == "evaluate":
        work = evaluation(a.form, a.bf16)
        work(64)
        print(seconds(lambda: work(a.images)))
    elif a.work == "sample":
        model = model_of(a.form).eval()
        if a.form in ("original", "sdpa"):
            sample = sample_again_and_again if a.form == "original" else sample_with_cache
            print(seconds(lambda: sample(model, a.images)))
        else:
            sample = sampler(model, a.images, a.form)
            sample()
            print(seconds(sample))


if __name__ == "__main__":
    main()
