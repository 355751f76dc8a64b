"""The model in plain PyTorch, written for reading: the independent reference of the C++ one.

Parameter names are those of the original project's state dict without the prefix `gpt.`.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(embed_dim)
        self.ln_2 = nn.LayerNorm(embed_dim)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), nn.GELU(), nn.Linear(4 * embed_dim, embed_dim))

    def forward(self, h):  # (B, S, D)
        length = h.size(1)
        later = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        h = self.ln_1(h)
        h = h + self.attn(h, h, h, attn_mask=later, need_weights=False)[0]
        return h + self.mlp(self.ln_2(h))


class ImageGPT(nn.Module):
    def __init__(self, embed_dim=16, num_heads=2, num_layers=8, num_pixels=28, num_vocab=16, num_classes=10):
        super().__init__()
        self.sos = nn.Parameter(torch.randn(embed_dim))
        self.token_embeddings = nn.Embedding(num_vocab, embed_dim)
        self.position_embeddings = nn.Embedding(num_pixels**2, embed_dim)
        self.layers = nn.ModuleList(Block(embed_dim, num_heads) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(embed_dim)  # not applied
        self.head = nn.Linear(embed_dim, num_vocab, bias=False)
        self.clf_head = nn.Linear(embed_dim, num_classes)

    def features(self, x):  # (B, S) int64 -> (B, S, D)
        e = self.token_embeddings(x)
        h = torch.cat([self.sos.expand(x.size(0), 1, -1), e[:, :-1]], dim=1)
        h = h + self.position_embeddings.weight[: x.size(1)]
        for layer in self.layers:
            h = layer(h)
        return h

    def forward(self, x):  # (B, S, V)
        return self.head(self.features(x))

    def classify(self, x):  # (B, C)
        return self.clf_head(self.features(x).mean(1))


MODEL_OPTIONS = ("embed_dim", "num_heads", "num_layers", "num_pixels", "num_vocab", "num_classes")


def load_checkpoint(path):
    """The model of a checkpoint that the C++ programs wrote, and the checkpoint itself."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = ImageGPT(**{name: checkpoint["hyper_parameters"][name] for name in MODEL_OPTIONS})
    state = {name.removeprefix("gpt."): value for name, value in checkpoint["state_dict"].items()}
    model.load_state_dict(state)
    return model.eval(), checkpoint


def generative_loss(logits, x):
    """Mean cross-entropy in nats per pixel."""
    return F.cross_entropy(logits.flatten(0, 1), x.flatten())
