"""What a probe of a large model costs beside a training step: evaluations, traffic, seconds and memory, by size.

A transformer of the shape of GPT-2 with random weights is trained by AdamW inside DCAO on one CPU thread, with 128
tokens a batch, so that few tokens meet many parameters: the hardest case for everything that a probe does beside its
evaluation. So is one of the shape of ViT-Base on one image a batch. The allocator keeps what is freed.

- **Reads and writes** of vectors of the parameters' size, and **operations** on them, in the probe and outside of its
  evaluations of the loss, counted with a ``TorchDispatchMode`` over those parameters that have more than
  :data:`SCRATCH` entries. What the last :data:`RECENT` operations have touched, in parts of at most that, is taken to
  come from the cache, and is not read again.
- **Memory**: how far the peak of training with DCAO is above that of bare training, in vectors of the parameters' size
  and by mode, beside what is expected; for larger models, which are built without memory, what is expected alone.

Run: python benchmarks/large_models.py [SIZE ...], of tiny, small, GPT-2 and ViT-Base (all by default: 6 minutes).
Prints two tables and writes results/large_models.json.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dcao
from dcao.probing.batch import Batch
from memory import AliveBytes
from recorded import keep_freed_memory, write_results

SIZES = {  # width, layers, heads, and words or classes
    "tiny": (128, 2, 2, 5_000),
    "small": (256, 6, 4, 20_000),
    "GPT-2": (768, 12, 12, 50_257),
    "ViT-Base": (768, 12, 12, 1000),
    "1 B": (1600, 32, 16, 50_257),
    "10 B": (4096, 48, 32, 50_257),
}
MEASURED = ("tiny", "small", "GPT-2", "ViT-Base")
# The guard, which takes snapshots often enough to be seen here, and the vectors that it keeps of AdamW's three.
MODES = {
    "default": (dcao.Guard(snapshot_every=1), 3.0),
    "snapshot in bfloat16": (dcao.Guard(snapshot_every=1, snapshot_dtype=torch.bfloat16), 1.5),
    "no snapshot": (dcao.Guard(snapshot_every=None), 0.0),
}
PROBE = 4.0
"""Vectors of a probe with AdamW: the gradient kept from the step before, the factors of the displacement, the
parameters as they were, and the probe's own gradient."""
TOKENS = 128
PATCH, PIXELS = 16, 224  # of ViT-Base
SCRATCH = 2**18
RECENT = 8


class Block(nn.Module):
    """Attention, of a language model to what came before, and a feed-forward layer, each after a normalisation."""

    def __init__(self, width: int, heads: int, *, is_causal: bool = True) -> None:
        super().__init__()
        self.heads, self.is_causal = heads, is_causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after the block."""
        parts = self.attend(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).unbind(dim=2)
        queries, keys, values = (part.transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=self.is_causal)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.feed(self.norm_2(x))


class Gpt(nn.Module):
    """The shape of GPT-2; with the sizes of "GPT-2" its 124 million parameters, and its tied embedding."""

    def __init__(self, width: int, layers: int, heads: int, words: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(1024, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """The loss of predicting each next token."""
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        scores = self.norm(self.blocks(x)) @ self.words.weight.T
        return nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    def draw(self) -> Tensor:
        """A batch."""
        return torch.randint(self.words.num_embeddings, (1, TOKENS))


class Vit(nn.Module):
    """The shape of ViT-Base (Dosovitskiy et al. 2021), and its 87 million parameters."""

    def __init__(self, width: int, layers: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, (PIXELS // PATCH) ** 2 + 1, width).mul_(0.02))
        self.blocks = nn.Sequential(*[Block(width, heads, is_causal=False) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """The loss of telling that an image is of class 0."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(images), -1, -1), patches], dim=1) + self.places
        scores = self.head(self.norm(self.blocks(x))[:, 0])
        return nn.functional.cross_entropy(scores, torch.zeros(len(images), dtype=torch.long))

    def draw(self) -> Tensor:
        """A batch."""
        return torch.randn(1, 3, PIXELS, PIXELS)


def build(size: str) -> Gpt | Vit:
    """The model of this size, with random weights."""
    return Vit(*SIZES[size]) if size.startswith("ViT") else Gpt(*SIZES[size])


class Traffic(TorchDispatchMode):
    """Entries of large tensors that operations outside of evaluations touch.

    Attributes:
        in_memory: Entries that are read or written and are not in the cache.
        operations: Entries of the largest tensor of each operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_memory = self.operations = 0
        self.is_paused = False
        self._cached: deque[tuple[int, int]] = deque(maxlen=RECENT)  # address and length of parts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makes_nothing = func.is_view or "empty" in str(func) or func is torch.ops.aten.detach.default
        if not self.is_paused and not makes_nothing:
            self._note([t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)])
        return result

    def _note(self, tensors: list[Tensor]) -> None:
        large = [t for t in tensors if t.untyped_storage().nbytes() > SCRATCH * t.element_size()]
        parts = {(t.data_ptr(), t.numel()): t.numel() for t in large}
        self.operations += max(parts.values(), default=0)
        self.in_memory += sum(size for part, size in parts.items() if part not in self._cached)
        self._cached.extend(part for part, size in parts.items() if size <= SCRATCH)

    @contextmanager
    def paused_in_evaluations(self) -> Iterator[None]:
        """Context in which evaluations of the loss are not counted."""
        evaluate = Batch._evaluate

        def uncounted(batch: Batch, params: Any) -> Any:
            self.is_paused = True
            try:
                return evaluate(batch, params)
            finally:
                self.is_paused = False

        Batch._evaluate = uncounted  # type: ignore[method-assign]
        try:
            yield
        finally:
            Batch._evaluate = evaluate  # type: ignore[method-assign]


class Training:
    """A model in training inside DCAO, which probes every second step."""

    def __init__(self, size: str, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = build(size)
        self.num_params = sum(p.numel() for p in self.model.parameters())
        self.num_large = sum(p.numel() for p in self.model.parameters() if p.numel() > SCRATCH)
        base = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.optimizer = dcao.DCAO(base, policy=dcao.policies.Fixed(), every=2, **settings)

    def step(self) -> None:
        """One training step on a batch of its own."""
        batch = self.model.draw()
        self.optimizer.minimize(lambda: self.model(batch))

    def bare_step(self) -> None:
        """The same step without DCAO."""
        batch = self.model.draw()
        self.optimizer.base.zero_grad()
        self.model(batch).backward()
        self.optimizer.base.step()

    def around_probe(self, around: Callable[[Callable[[], Any]], Any]) -> Any:
        """One step, with ``around`` called on the probe before it."""
        loop, found = self.optimizer.loop, []
        probe = loop.before_step
        loop.before_step = lambda *args, **kwargs: found.append(around(lambda: probe(*args, **kwargs)))
        try:
            self.step()
        finally:
            del loop.before_step
        return found[0]


def seconds(step: Callable[[], Any]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def count_traffic(probe: Callable[[], Any]) -> Traffic:
    with Traffic() as traffic, traffic.paused_in_evaluations():
        probe()
    return traffic


def added_vectors(size: str, guard: dcao.Guard, steps: int = 5) -> float:
    """How far the peak of training is above that of bare training."""
    peaks = []
    for is_bare in (True, False):
        training = Training(size, guard=guard)
        with AliveBytes() as alive:
            for _ in range(steps):
                training.bare_step() if is_bare else training.step()
        peaks.append(alive.peak / (4 * training.num_params))
    return peaks[1] - peaks[0]


def num_params(size: str) -> int:
    """Parameters of a model that is built without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(size).parameters())


def measure(size: str, repeats: int = 3) -> dict[str, float]:
    """The costs of a probe of one model."""
    training = Training(size)
    for _ in range(3):
        training.step()  # a probe with its check, a step, a probe that has a gradient from before
    bare, probed = [], []
    for _ in range(repeats):
        bare.append(seconds(training.bare_step))
        training.step()
        probed.append(training.around_probe(seconds))
    training.step()
    spent = training.optimizer.probe_cost
    traffic = training.around_probe(count_traffic)
    evaluations = training.optimizer.probe_cost - spent
    step = statistics.median(bare)
    return {
        "params": training.num_params,
        "step_seconds": step,
        "probe_in_steps": statistics.median(probed) / step,
        "evaluations": evaluations,
        "reads_and_writes": traffic.in_memory / training.num_large,
        "operations": traffic.operations / training.num_large,
    }


def memory_rows(size: str, *, measured: bool) -> list[dict[str, Any]]:
    """For each mode the vectors that it adds, expected and measured, and gigabytes in float32."""
    rows = []
    for mode, (guard, kept) in MODES.items():
        row = {"mode": mode, "expected": kept + PROBE, "gigabytes": 4e-9 * num_params(size) * (kept + PROBE)}
        rows.append(row | ({"measured": added_vectors(size, guard)} if measured else {}))
    return rows


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    results, memory = {}, {}
    print("model, parameters, bare step | a probe: in steps, evaluations, reads and writes, operations")
    for size in sys.argv[1:] or MEASURED:
        results[size] = row = measure(size)
        print(
            f"{size}, {row['params'] / 1e6:.1f} M, {row['step_seconds']:.2f} s | {row['probe_in_steps']:.2f}, "
            f"{row['evaluations']:.0f}, {row['reads_and_writes']:.1f}, {row['operations']:.1f}",
            flush=True,
        )
    print("model, mode | vectors that DCAO adds at most: expected, measured | GB in float32")
    for size in sys.argv[1:] or SIZES:
        memory[size] = memory_rows(size, measured=size in MEASURED)
        for row in memory[size]:
            found = f"{row['measured']:.2f}" if "measured" in row else "-"
            print(f"{size}, {row['mode']} | {row['expected']:.1f}, {found} | {row['gigabytes']:.2f}", flush=True)
    write_results("large_models", sizes=results, memory=memory)


if __name__ == "__main__":
    main()
