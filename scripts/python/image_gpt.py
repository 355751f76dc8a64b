"""The model in plain PyTorch, written for reading: the independent reference of the C++ one.

Parameter names are those of the original project's state dict without the prefix `gpt.`.
"""

import torch
from torch import nn
from torch.nn import functional as F


REACH = 6  # of the neighbours: rows above, columns to both sides


def nearest(count):
    """The pixels nearest to one among those before it in raster order: (down, right), nearest first; of equal distance
    the lower, then the one on the left."""
    before = [(down, right) for down in range(-REACH, 1) for right in range(-REACH, REACH + 1) if (down, right) < (0, 0)]
    return sorted(before, key=lambda at: (at[0] ** 2 + at[1] ** 2, -at[0], at[1]))[:count]


class Block(nn.Module):
    def __init__(self, embed_dim, num_heads, pre_norm=False):
        super().__init__()
        self.pre_norm = pre_norm
        self.ln_1 = nn.LayerNorm(embed_dim)
        self.ln_2 = nn.LayerNorm(embed_dim)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), nn.GELU(), nn.Linear(4 * embed_dim, embed_dim))

    def forward(self, h):  # (B, S, D)
        length = h.size(1)
        later = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        normalised = self.ln_1(h)
        attended = self.attn(normalised, normalised, normalised, attn_mask=later, need_weights=False)[0]
        h = (h if self.pre_norm else normalised) + attended  # the original goes on from the normalised h
        return h + self.mlp(self.ln_2(h))


class ImageGPT(nn.Module):
    def __init__(self, arch="image-gpt", embed_dim=16, num_heads=2, num_layers=8, num_pixels=28, num_vocab=16,
                 num_classes=10, neighbours=12):
        super().__init__()
        self.is_2d, self.num_pixels, self.num_vocab, self.neighbours = (
            arch == "image-gpt-2d", num_pixels, num_vocab, neighbours)
        if self.is_2d:
            self.token_embeddings = nn.Embedding(neighbours * (num_vocab + 1), embed_dim)
            self.row_embeddings = nn.Embedding(num_pixels, embed_dim)
            self.column_embeddings = nn.Embedding(num_pixels, embed_dim)
        else:
            self.sos = nn.Parameter(torch.randn(embed_dim))
            self.token_embeddings = nn.Embedding(num_vocab, embed_dim)
            self.position_embeddings = nn.Embedding(num_pixels**2, embed_dim)
        self.layers = nn.ModuleList(Block(embed_dim, num_heads, self.is_2d) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(embed_dim)  # the original does not apply it
        self.head = nn.Linear(embed_dim, num_vocab, bias=False)
        self.clf_head = nn.Linear(embed_dim, num_classes)

    def embed(self, x):  # (B, S) int64 -> (B, S, D)
        e = self.token_embeddings(x)
        h = torch.cat([self.sos.expand(x.size(0), 1, -1), e[:, :-1]], dim=1)
        return h + self.position_embeddings.weight[: x.size(1)]

    def embed_2d(self, x):  # (B, S) int64, whole images -> (B, S, D)
        side, outside = self.num_pixels, self.num_vocab
        images = F.pad(x.view(-1, side, side), (REACH, REACH, REACH, 0), value=outside)
        h = self.row_embeddings.weight[:, None] + self.column_embeddings.weight  # (side, side, D)
        for k, (down, right) in enumerate(nearest(self.neighbours)):
            seen = images[:, REACH + down : REACH + down + side, REACH + right : REACH + right + side]
            h = h + self.token_embeddings(seen + k * (outside + 1))
        return h.flatten(1, 2)

    def features(self, x):  # (B, S) int64 -> (B, S, D)
        h = self.embed_2d(x) if self.is_2d else self.embed(x)
        for layer in self.layers:
            h = layer(h)
        return self.ln_f(h) if self.is_2d else h

    def forward(self, x):  # (B, S, V)
        return self.head(self.features(x))

    def classify(self, x):  # (B, C)
        return self.clf_head(self.features(x).mean(1))


MODEL_OPTIONS = ("arch", "neighbours", "embed_dim", "num_heads", "num_layers", "num_pixels", "num_vocab", "num_classes")


def load_checkpoint(path):
    """The model of a checkpoint that the C++ programs wrote, and the checkpoint itself."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = ImageGPT(**{name: value for name, value in checkpoint["hyper_parameters"].items() if name in MODEL_OPTIONS})
    state = {name.removeprefix("gpt."): value for name, value in checkpoint["state_dict"].items()}
    model.load_state_dict(state)
    return model.eval(), checkpoint


def generative_loss(logits, x):
    """Mean cross-entropy in nats per pixel."""
    return F.cross_entropy(logits.flatten(0, 1), x.flatten())
