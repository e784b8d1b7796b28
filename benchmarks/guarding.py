"""What the guard does with garbage, and with data that only looks like it.

Two tables. *Garbage*: four networks on scikit-learn's digits, AdamW and SGD, 240 steps, with accidents from step 120
on; the training loss at the end, and in brackets the steps skipped and the times that the run went back. *Data*: losses
that jump, vanish or are nan because the data are so; the loss at the end (the area under the curve for rare positives)
with the guard, without it and of the bare optimizer, the last lr with the guard over that without, and the steps that
the guard skipped. Each seed is a row of its own in the JSON that ``--json FILE`` writes; cells are medians of them.

Run: python benchmarks/guarding.py [garbage|data] [--json FILE]; two minutes. For another checkout set PYTHONPATH to its
``src``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from dcao import DCAO

Step = Callable[[], Tensor]  # the loss of one training step

# --- garbage ------------------------------------------------------------------------------------------------------

NUM_STEPS, ACCIDENT = 240, 120


class Rows(nn.Module):
    """A sequence model over the eight rows of an image."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        if kind == "Transformer":
            layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
            self.body: nn.Module = nn.TransformerEncoder(layer, 2)
        else:
            self.body = nn.LSTM(32, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(self.embed(x.view(-1, 8, 8)))
        return self.head((out[0] if isinstance(out, tuple) else out).mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    conv = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *conv, nn.Flatten(), nn.Linear(128, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": mlp,
    "CNN": cnn,
    "Transformer": lambda: Rows("Transformer"),
    "LSTM": lambda: Rows("LSTM"),
}
BASES: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-3),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
}


@dataclass(frozen=True)
class Accident:
    """What happens at some steps: to the inputs, to the labels, or to the training itself."""

    steps: tuple[int, ...] = ()
    factor: float = 1.0
    shift: int = 0
    act: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None


def in_a_row(num: int) -> tuple[int, ...]:
    return tuple(range(ACCIDENT, ACCIDENT + num))


@torch.no_grad()
def multiply_weights(model: nn.Module, factor: float) -> None:
    for p in model.parameters():
        p.mul_(factor)


def multiply_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= factor


ACCIDENTS = {
    "none": Accident(),
    "inputs x 1e4": Accident((ACCIDENT,), 1e4),
    "2 in a row": Accident(in_a_row(2), 1e4),
    "3 in a row": Accident(in_a_row(3), 1e4),
    "4 in a row": Accident(in_a_row(4), 1e4),
    "8 in a row": Accident(in_a_row(8), 1e4),
    "3 times": Accident((120, 140, 160), 1e4),
    "6 times": Accident((120, 136, 152, 168, 184, 200), 1e4),
    "inputs x 1e8": Accident((ACCIDENT,), 1e8),
    "nan": Accident((ACCIDENT,), math.nan),
    "nan 3 in a row": Accident(in_a_row(3), math.nan),
    "nan 20 in a row": Accident(in_a_row(20), math.nan),
    "labels shifted": Accident(in_a_row(1), shift=1),
    "labels, 4 in a row": Accident(in_a_row(4), shift=1),
    "weights nan": Accident((ACCIDENT,), act=lambda model, optimizer: multiply_weights(model, math.nan)),
    "weights x 30": Accident((ACCIDENT,), act=lambda model, optimizer: multiply_weights(model, 30.0)),
    "lr x 1000": Accident((ACCIDENT,), act=lambda model, optimizer: multiply_lr(optimizer, 1e3)),
}


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)


def garbage_run(network: str, base: str, accident: Accident, seed: int) -> dict[str, float]:
    """The loss on all data at the end, and what the guard has done."""
    torch.manual_seed(seed)
    model, (x, y), generator = NETWORKS[network](), digits(), torch.Generator().manual_seed(seed)
    optimizer = DCAO(BASES[base](list(model.parameters())), total_steps=NUM_STEPS)
    for step in range(NUM_STEPS):
        rows = torch.randint(0, len(x), (32,), generator=generator)
        inputs, labels = x[rows], y[rows]
        if step in accident.steps:
            inputs, labels = accident.factor * inputs, (labels + accident.shift) % 10
            if accident.act is not None:
                accident.act(model, optimizer)
        optimizer.minimize(lambda inputs=inputs, labels=labels: F.cross_entropy(model(inputs), labels))
    with torch.no_grad():
        loss = F.cross_entropy(model.eval()(x), y).item()
    return {"loss": loss, "skipped": optimizer.num_skipped, "restored": optimizer.num_restored}


def garbage_table() -> list[dict[str, object]]:
    columns = [(network, base) for network in NETWORKS for base in BASES]
    print(f"{'garbage':20s}" + "".join(f"{network[:6] + ' ' + base:>17s}" for network, base in columns))
    rows: list[dict[str, object]] = []
    for name, accident in ACCIDENTS.items():
        cells = []
        for network, base in columns:
            runs = [garbage_run(network, base, accident, seed) for seed in (0,)]
            rows += [{"accident": name, "network": network, "base": base, **run} for run in runs]
            loss, skipped, restored = (statistics.median(run[key] for run in runs) for key in runs[0])
            cells.append(f"{loss:>10.3f} ({skipped:.0f},{restored:.0f})".rjust(17))
        print(f"{name:20s}" + "".join(cells), flush=True)
    return rows


# --- data that looks like garbage ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Training whose data are uneven: the losses of its steps, and what counts at the end."""

    model: nn.Module
    steps: Iterator[Step]
    score: Callable[[], float]


def small(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def rare_positives(seed: int, share: float, batch: int, num_steps: int = 1500) -> Task:
    net, weight, generator = small(20, 1), torch.tensor(1 / share), torch.Generator().manual_seed(seed)
    shift = 0.7 * torch.randn(20, generator=generator).sign()

    def steps() -> Iterator[Step]:
        for _ in range(num_steps):
            y = (torch.rand(batch, generator=generator) < share).float()
            x = torch.randn(batch, 20, generator=generator) + y[:, None] * shift
            yield lambda x=x, y=y: F.binary_cross_entropy_with_logits(net(x)[:, 0], y, pos_weight=weight)

    def score() -> float:
        x = torch.randn(2000, 20, generator=generator)
        return (net(x + shift) > net(torch.randn(2000, 20, generator=generator)).T).float().mean().item()

    return Task(net, steps(), score)


def teacher(seed: int, spread: float = 0.3) -> tuple[nn.Module, Callable[[], tuple[Tensor, Tensor]], torch.Generator]:
    """A network, batches of a regression that it can learn, and where they are drawn from."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(20, 1, generator=generator)

    def draw(size: int = 32) -> tuple[Tensor, Tensor]:
        x = torch.randn(size, 20, generator=generator)
        return x, torch.tanh(x) @ truth + spread * torch.randn(size, 1, generator=generator)

    return small(20, 1), draw, generator


def regression(
    seed: int,
    change: Callable[[int, Tensor, torch.Generator], Tensor],
    num_steps: int = 600,
    loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    weight: Callable[[int, torch.Generator], float] = lambda step, generator: 1.0,
) -> Task:
    """A regression whose targets ``change`` with the step, and whose loss is weighted by it; scored on the last."""
    net, draw, generator = teacher(seed)

    def steps() -> Iterator[Step]:
        for step in range(num_steps):
            x, y = draw()
            y, factor = change(step, y, generator), weight(step, generator)
            yield lambda x=x, y=y, factor=factor: factor * loss(net(x), y)

    def score() -> float:
        x, y = draw(2000)
        return loss(net(x), change(num_steps - 1, y, generator)).item()

    return Task(net, steps(), score)


def same(step: int, y: Tensor, generator: torch.Generator) -> Tensor:
    return y


def pareto(step: int, y: Tensor, generator: torch.Generator) -> Tensor:
    return y * torch.rand(y.shape, generator=generator).pow(-1 / 1.5)


def sparse_reward(seed: int, share: float) -> Task:
    """Only a share of the batches has a gradient at all, the first of them never."""
    rewarded = lambda step, generator: float(step > 20 and torch.rand((), generator=generator) < share)  # noqa: E731
    return regression(seed, same, 1500, weight=rewarded)


def nearly_sparse(seed: int, share: float) -> Task:
    """The same, with a gradient that is tiny in between."""
    factor = lambda step, generator: 1.0 if torch.rand((), generator=generator) < share else 1e-7  # noqa: E731
    return regression(seed, same, 1500, weight=factor)


def classes(
    seed: int, change: Callable[[int, Tensor, torch.Generator], Tensor], num_steps: int = 600, batch: int = 32
) -> Task:
    """Digits whose labels ``change`` with the step; scored on the last ones. -100 is no label."""
    (x, y), net, generator = digits(), small(64, 10), torch.Generator().manual_seed(seed)

    def steps() -> Iterator[Step]:
        for step in range(num_steps):
            rows = torch.randint(0, len(x), (batch,), generator=generator)
            labels = change(step, y[rows], generator)
            yield lambda rows=rows, labels=labels: F.cross_entropy(net(x[rows]), labels)

    def score() -> float:
        labels = change(num_steps - 1, y, torch.Generator().manual_seed(seed))
        return F.cross_entropy(net(x), y if (labels == -100).all() else labels).item()

    return Task(net, steps(), score)


def new_tasks(step: int, y: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(10, generator=torch.Generator().manual_seed(step // 100))[y]


def unlabelled(is_empty: Callable[[int, Tensor], bool]) -> Callable[[int, Tensor, torch.Generator], Tensor]:
    def change(step: int, y: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(y, -100) if is_empty(step, torch.rand((), generator=generator)) else y

    return change


def triplets(seed: int) -> Task:
    """A margin that most triplets keep soon: from then on most batches have no gradient."""
    (x, y), net, generator = digits(), small(64, 8), torch.Generator().manual_seed(seed)

    def draw(size: int = 2) -> list[Tensor]:
        anchors = torch.randint(0, len(x), (size,), generator=generator)
        near = torch.stack([pick(y == y[a]) for a in anchors])
        return [x[anchors], x[near], x[torch.stack([pick(y != y[a]) for a in anchors])]]

    def pick(mask: Tensor) -> Tensor:
        found = mask.nonzero()[:, 0]
        return found[torch.randint(0, len(found), (), generator=generator)]

    def loss(batch: list[Tensor]) -> Tensor:
        return F.triplet_margin_loss(*(net(each) for each in batch), margin=0.5)

    def steps() -> Iterator[Step]:
        for _ in range(1000):
            batch = draw()
            yield lambda batch=batch: loss(batch)

    return Task(net, steps(), lambda: loss(draw(2000)).item())


TASKS: dict[str, Callable[[int], Task]] = {
    "positives 1:500, 16": lambda seed: rare_positives(seed, 0.002, 16),
    "positives 1:100, 4": lambda seed: rare_positives(seed, 0.01, 4),
    "positives 1:3000, 32": lambda seed: rare_positives(seed, 1 / 3000, 32, 2500),
    "positives 1:200, 64": lambda seed: rare_positives(seed, 0.005, 64),
    "reward in 3 %": lambda seed: sparse_reward(seed, 0.03),
    "reward in 20 %": lambda seed: sparse_reward(seed, 0.2),
    "nearly sparse, 3 %": lambda seed: nearly_sparse(seed, 0.03),
    "triplets": triplets,
    "permuted labels": lambda seed: classes(seed, new_tasks),
    "targets x 30": lambda seed: regression(seed, lambda step, y, _: y * 30.0 ** (step // 100 % 2)),
    "targets + 100": lambda seed: regression(seed, lambda step, y, _: y + 100.0 * (step // 100 % 3)),
    "loss jumps by 1000": lambda seed: regression(seed, same, weight=lambda step, _: 1000.0 if step >= 300 else 1.0),
    "loss x 1e4, SGD": lambda seed: regression(seed, same, weight=lambda step, _: 1e4 if step >= 300 else 1.0),
    "Pareto targets": lambda seed: regression(seed, pareto),
    "Pareto, L1": lambda seed: regression(seed, pareto, loss=F.l1_loss),
    "nan 1 in 20": lambda seed: classes(seed, unlabelled(lambda step, u: bool(u < 0.05))),
    "nan every 3rd": lambda seed: classes(seed, unlabelled(lambda step, u: step % 3 == 1)),
    "nan 1 in 3": lambda seed: classes(seed, unlabelled(lambda step, u: bool(u < 1 / 3))),
    "nan 5 of 50": lambda seed: classes(seed, unlabelled(lambda step, u: step % 50 >= 45)),
}


def data_run(name: str, arm: str, seed: int) -> dict[str, float]:
    """The score at the end, the last lr, and what the guard has done."""
    torch.manual_seed(seed)
    task = TASKS[name](seed)
    base = BASES["SGD" if name.endswith("SGD") else "AdamW"](list(task.model.parameters()))
    optimizer = base if arm == "bare" else DCAO(base, guard=arm == "guard")
    skips = []
    for index, loss_fn in enumerate(task.steps):
        if isinstance(optimizer, DCAO):
            before = optimizer.num_skipped
            optimizer.minimize(loss_fn)
            skips += [index] if optimizer.num_skipped > before else []
        else:
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            if loss.isfinite():
                optimizer.step()
    lr = optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        result = {"score": task.score(), "lr": lr}
    if isinstance(optimizer, DCAO):
        result |= {"skipped": optimizer.num_skipped, "restored": optimizer.num_restored}
    return result


def data_table() -> list[dict[str, object]]:
    print(f"\n{'data':20s}{'guard':>10s}{'without':>10s}{'bare':>10s}{'lr ratio':>10s}{'skipped':>16s}  went back")
    rows: list[dict[str, object]] = []
    for name in TASKS:
        runs = {arm: [data_run(name, arm, seed) for seed in (0, 1, 2)] for arm in ("guard", "without", "bare")}
        rows += [{"data": name, "arm": arm, "seed": i, **r} for arm in runs for i, r in enumerate(runs[arm])]
        scores = "".join(f"{statistics.median(run['score'] for run in runs[arm]):>10.4g}" for arm in runs)
        pairs = zip(runs["guard"], runs["without"], strict=True)
        ratio = statistics.median(with_guard["lr"] / without["lr"] for with_guard, without in pairs)
        skipped, restored = ("/".join(f"{run[key]:.0f}" for run in runs["guard"]) for key in ("skipped", "restored"))
        print(f"{name:20s}{scores}{ratio:>10.2g}{skipped:>16s}  {restored}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What the guard does with garbage, and with data that looks like it.")
    parser.add_argument("tables", nargs="*", choices=["garbage", "data", []], help="default: both")
    parser.add_argument("--json", type=Path, help="write every run there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = arguments.tables or ["garbage", "data"]
    rows = {name: garbage_table() if name == "garbage" else data_table() for name in tables}
    if arguments.json:
        arguments.json.write_text(json.dumps({"torch": torch.__version__, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
