"""Three small trainings on embedded data for the benchmarks: digits (MLP, CNN) and Python's documentation (GPT)."""

# ruff: noqa: D101, D102

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A training that can be run step by step."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    batch_size: int

    def batches(self, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Random batches without end."""
        x, y = self.data()
        generator = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(0, len(x), (self.batch_size,), generator=generator)
            yield x[rows], y[rows]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples, or over samples and positions."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def digits() -> tuple[Tensor, Tensor]:
    """8x8 images, 1797 of them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)


def digit_images() -> tuple[Tensor, Tensor]:
    """The same with channel, height and width."""
    x, y = digits()
    return x.view(-1, 1, 8, 8), y


def documentation(length: int = 32, vocabulary: int = 64) -> tuple[Tensor, Tensor]:
    """Windows of Python's documentation as character numbers, and the same shifted by one."""
    from pydoc_data.topics import topics

    text = torch.tensor(list("".join(topics.values())[:200_000].encode("ascii", "replace"))) % vocabulary
    windows = text[: len(text) // (length + 1) * (length + 1)].view(-1, length + 1)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


class GPT(nn.Module):
    """Two pre-norm blocks with fused causal attention."""

    def __init__(self, vocabulary: int = 64, width: int = 32, length: int = 32, num_blocks: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int = 2) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(self.norms[0](x)).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def sgd(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.03, momentum=0.9)


def adamw(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=1e-3)


WORKLOADS = [
    Workload(name="MLP", model=mlp, data=digits, optimizer=sgd, batch_size=256),
    Workload(name="CNN", model=cnn, data=digit_images, optimizer=adamw, batch_size=256),
    Workload(name="GPT", model=GPT, data=documentation, optimizer=adamw, batch_size=16),
]
