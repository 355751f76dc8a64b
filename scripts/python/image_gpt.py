"""The model in plain PyTorch, written for reading: the independent reference of the C++ one.

Parameter names are those of the original project's state dict without the prefix `gpt.`.
"""

import pickle
import types

import torch
from torch import nn
from torch.nn import functional as F


REACH = 6  # of the neighbours: rows above, columns to both sides


def nearest(count):
    """The pixels nearest to one among those before it in raster order: (down, right), nearest first; of equal distance
    the lower, then the one on the left."""
    before = [(down, right) for down in range(-REACH, 1) for right in range(-REACH, REACH + 1) if (down, right) < (0, 0)]
    return sorted(before, key=lambda at: (at[0] ** 2 + at[1] ** 2, -at[0], at[1]))[:count]


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def norm(embed_dim, is_paper):
    return nn.RMSNorm(embed_dim, eps=1e-5) if is_paper else nn.LayerNorm(embed_dim)


def of_neighbours(images, count, outside):  # (B, side, side, ..) -> count times the same, each seen by the pixels
    side = images.size(1)
    nothing = images.new_full((images.size(0), side + REACH, side + 2 * REACH, *images.shape[3:]), outside)
    nothing[:, REACH:, REACH : REACH + side] = images
    for down, right in nearest(count):
        yield nothing[:, REACH + down : REACH + down + side, REACH + right : REACH + right + side]


class Convolution(nn.Module):
    """Depth-wise over the pixels nearest before each, and the pixel itself with gain 1."""

    def __init__(self, embed_dim, side, taps):
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.zeros(taps, embed_dim))

    def forward(self, h):  # (B, S, D)
        images = h.unflatten(1, (self.side, self.side))
        return h + sum(seen * gain for seen, gain in zip(of_neighbours(images, len(self.weight), 0.0), self.weight)
                       ).flatten(1, 2)


class Block(nn.Module):
    def __init__(self, embed_dim, num_heads, pre_norm=False, is_paper=False, conv=None):
        super().__init__()
        self.pre_norm = pre_norm
        self.ln_1 = norm(embed_dim, is_paper)
        self.ln_2 = norm(embed_dim, is_paper)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), QuickGELU() if is_paper else nn.GELU(),
                                 nn.Linear(4 * embed_dim, embed_dim))
        self.conv = conv or nn.Identity()

    def forward(self, h):  # (B, S, D)
        length = h.size(1)
        later = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        normalised = self.ln_1(h)
        attended = self.attn(normalised, normalised, normalised, attn_mask=later, need_weights=False)[0]
        h = (h if self.pre_norm else normalised) + attended  # the original goes on from the normalised h
        return h + self.mlp(self.conv(self.ln_2(h)))


class ImageGPT(nn.Module):
    def __init__(self, arch="image-gpt", embed_dim=16, num_heads=2, num_layers=8, num_pixels=28, num_vocab=16,
                 num_classes=10, neighbours=12, table_rank=0, conv_taps=0, final_norm=None, conditional=False):
        super().__init__()
        self.is_2d, self.num_pixels, self.num_vocab, self.neighbours = (
            arch == "image-gpt-2d", num_pixels, num_vocab, neighbours)
        is_paper, self.table_rank = arch == "igpt", table_rank
        self.conditional = conditional  # a start token for each class
        self.final_norm = (self.is_2d or is_paper) if final_norm is None else final_norm
        if conditional:
            self.sos = nn.Parameter(torch.randn(num_classes, embed_dim))
        elif not self.is_2d:
            self.sos = nn.Parameter(torch.randn(embed_dim))
        if self.is_2d:
            if table_rank > 0:
                self.neighbour_projections = nn.Parameter(torch.randn(neighbours, table_rank, embed_dim))
                self.token_embeddings = nn.Embedding(num_vocab + 1, table_rank)
            else:
                self.token_embeddings = nn.Embedding(neighbours * (num_vocab + 1), embed_dim)
            self.row_embeddings = nn.Embedding(num_pixels, embed_dim)
            self.column_embeddings = nn.Embedding(num_pixels, embed_dim)
        else:
            self.token_embeddings = nn.Embedding(num_vocab, embed_dim)
            self.position_embeddings = nn.Embedding(num_pixels**2, embed_dim)
        self.layers = nn.ModuleList(
            Block(embed_dim, num_heads, self.is_2d or is_paper, is_paper,
                  Convolution(embed_dim, num_pixels, conv_taps) if conv_taps > 0 else None) for _ in range(num_layers))
        self.ln_f = norm(embed_dim, is_paper)  # the first version of the original does not apply it
        self.head = nn.Linear(embed_dim, num_vocab, bias=False)
        self.clf_head = nn.Linear(embed_dim, num_classes, bias=not is_paper)

    def embed(self, x, y):  # (B, S) int64, (B) int64 or None -> (B, S, D)
        e = self.token_embeddings(x)
        start = self.sos[y].unsqueeze(1) if self.conditional else self.sos.expand(x.size(0), 1, -1)
        h = torch.cat([start, e[:, :-1]], dim=1)
        return h + self.position_embeddings.weight[: x.size(1)]

    def embed_2d(self, x, y):  # (B, S) int64, whole images, (B) int64 or None -> (B, S, D)
        side, outside = self.num_pixels, self.num_vocab
        tables = self.token_embeddings.weight
        tables = tables @ self.neighbour_projections if self.table_rank > 0 else tables.unflatten(0, (-1, outside + 1))
        h = self.row_embeddings.weight[:, None] + self.column_embeddings.weight  # (side, side, D)
        for seen, table in zip(of_neighbours(x.view(-1, side, side), self.neighbours, outside), tables):
            h = h + table[seen]
        h = h.flatten(1, 2)
        if self.conditional:  # in the place of the first neighbour of the first position
            first = h[:, 0] - tables[0, outside] + self.sos[y]
            h = torch.cat([first.unsqueeze(1), h[:, 1:]], dim=1)
        return h

    def features(self, x, y=None):  # (B, S) int64, (B) int64 the classes, for a conditional model -> (B, S, D)
        h = self.embed_2d(x, y) if self.is_2d else self.embed(x, y)
        for layer in self.layers:
            h = layer(h)
        return self.ln_f(h) if self.final_norm else h

    def layer_features(self, x):  # (B, L + 1, D), what linear probes read
        h = self.embed_2d(x, None) if self.is_2d else self.embed(x, None)
        means = []
        for layer in self.layers:
            means.append(layer.ln_1(h).mean(1))
            h = layer(h)
        means.append((self.ln_f(h) if self.final_norm else h).mean(1))
        return torch.stack(means, 1)

    def forward(self, x, y=None):  # (B, S, V)
        return self.head(self.features(x, y))

    def classify(self, x):  # (B, C)
        return self.clf_head(self.features(x).mean(1))


MODEL_OPTIONS = ("arch", "neighbours", "table_rank", "conv_taps", "final_norm", "embed_dim", "num_heads", "num_layers", "num_pixels", "num_vocab",
                 "num_classes", "conditional")


class LightningsClassesAsDicts(pickle.Unpickler):
    """Checkpoints of the original name classes of Lightning 0.8 and 0.9 for their hyper-parameters."""

    def find_class(self, module, name):
        if module.startswith("pytorch_lightning."):
            return type(name, (dict,), {"__setstate__": lambda self, state: self.update(state or {})})
        return super().find_class(module, name)


def load_checkpoint(path, trusted=False):
    """The model of a checkpoint that the C++ programs or the original wrote, and the checkpoint itself. The original's
    pickles run what they name: read them only if they are `trusted`."""
    if trusted:
        reader = types.SimpleNamespace(Unpickler=LightningsClassesAsDicts, load=pickle.load, __name__="pickle")
        checkpoint = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    else:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    hyper_parameters, state = checkpoint["hyper_parameters"], dict(checkpoint["state_dict"])
    state.pop("centroids", None)
    state = {name.removeprefix("gpt."): value for name, value in state.items()}
    options = {name: value for name, value in hyper_parameters.items() if name in MODEL_OPTIONS}
    if "arch" not in hyper_parameters:  # the original's: training has moved ln_f where it was applied
        options["final_norm"] = bool((state["ln_f.weight"] != 1).any() or (state["ln_f.bias"] != 0).any())
    model = ImageGPT(**options)
    model.load_state_dict(state)
    return model.eval(), checkpoint


def quantize(images, centroids):
    """Nearest centroids (V, 1) of grey images (N, h, w) uint8, as the last version of the original finds them: pixels in
    [0, 1], squared distances a^2 - 2 a b + b^2 in single precision, the first of several."""
    pixels = (images.float() / 255).reshape(-1, 1)
    tokens = []
    for part in pixels.split(1 << 20):
        distances = part.square().sum(1, keepdim=True) - 2 * part @ centroids.t() + centroids.t().square().sum(0, keepdim=True)
        tokens.append(distances.argmin(1))
    return torch.cat(tokens).reshape(images.shape)


def generative_loss(logits, x):
    """Mean cross-entropy in nats per pixel."""
    return F.cross_entropy(logits.flatten(0, 1), x.flatten())
