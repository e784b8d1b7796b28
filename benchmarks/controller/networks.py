"""The networks of the tasks."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(*sizes: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, *, causal: bool, norm: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = (nn.LayerNorm(dim), nn.LayerNorm(dim)) if norm else (nn.Identity(), nn.Identity())
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Two causal blocks over 128 characters."""

    def __init__(self, dim: int = 64, length: int = 64) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, dim), nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.ModuleList(Block(dim, 4, causal=True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 128)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class VAE(nn.Module):
    """Convolutional, for digits; eight latent numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 16),
        )
        self.decoder = nn.Sequential(
            nn.Linear(8, 128),
            nn.ReLU(),
            nn.Unflatten(1, (32, 2, 2)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, 2, 1),
            nn.Flatten(),
        )

    def elbo(self, x: Tensor, noise: Tensor) -> Tensor:
        mean, log_var = self.encoder(x).chunk(2, 1)
        seen = F.binary_cross_entropy_with_logits(self.decoder(mean + noise * (log_var / 2).exp()), x, reduction="sum")
        return (seen - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / len(x)


class Sine(nn.Module):
    """A layer of a SIREN."""

    def __init__(self, inputs: int, outputs: int, *, first: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / 30
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return (30 * self.linear(x)).sin()


class Factors(nn.Module):
    """Matrix factorisation with biases."""

    def __init__(self, users: int, items: int, mean: float) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(users, 16), nn.Embedding(items, 16)
        self.user_bias, self.item_bias, self.mean = nn.Embedding(users, 1), nn.Embedding(items, 1), mean
        nn.init.normal_(self.user.weight, std=0.05)
        nn.init.normal_(self.item.weight, std=0.05)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, pairs: Tensor) -> Tensor:
        user, item = pairs[:, 0], pairs[:, 1]
        bias = (self.user_bias(user) + self.item_bias(item)).squeeze(-1)
        return self.mean + bias + (self.user(user) * self.item(item)).sum(-1)


class Denoiser(nn.Module):
    """Predicts the noise in points of the plane at a time of the diffusion."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(2 + 32, 128, 128, 128, 2, act=nn.SiLU)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] / 100 * torch.logspace(0, 2, 16)
        return self.net(torch.cat([x, angles.sin(), angles.cos()], 1))


def patches(x: Tensor) -> Tensor:
    """Sixteen patches of 2 by 2 pixels of an 8 by 8 image."""
    return x.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)


class Mixer(nn.Module):
    """Two MLP-Mixer blocks on patches of digits."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.head, self.norm = nn.Linear(4, dim), nn.Linear(dim, 10), nn.LayerNorm(dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.tokens = nn.ModuleList(mlp(16, 32, 16, act=nn.GELU) for _ in range(2))
        self.channels = nn.ModuleList(mlp(dim, 64, dim, act=nn.GELU) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(patches(x))
        for i in range(2):
            h = h + self.tokens[i](self.norms[2 * i](h).transpose(1, 2)).transpose(1, 2)
            h = h + self.channels[i](self.norms[2 * i + 1](h))
        return self.head(self.norm(h).mean(1))


class ViT(nn.Module):
    """Two transformer blocks on patches of digits."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(4, dim), nn.Parameter(0.02 * torch.randn(16, dim))
        self.blocks = nn.Sequential(Block(dim, 4, causal=False), Block(dim, 4, causal=False))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(patches(x)) + self.place)).mean(1))


class Reverser(nn.Module):
    """torch's encoder and decoder, a layer each."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(12, dim), nn.Parameter(0.02 * torch.randn(9, dim))
        self.net = nn.Transformer(dim, 4, 1, 1, 64, batch_first=True)  # dropout 0.1, its default
        self.head = nn.Linear(dim, 12)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        place = self.place[: target.shape[1]]
        h = self.net(self.embed(source) + self.place[:8], self.embed(target) + place, tgt_mask=mask, tgt_is_causal=True)
        return self.head(h)
