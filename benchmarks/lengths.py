"""Weights that start at zero, do not move or are in another unit: DCAO from three lrs against a sweep of its base.

``python benchmarks/lengths.py [SRC]`` prints a line a problem and optimizer; ``SRC`` is the ``src`` folder of another
checkout. A line has the loss on all data after 200 steps: of DCAO from 1e-7, 1e-3 and 10 with ``total_steps`` known, of
DCAO from 1e-3 without, and the smallest of constant lrs from 1e-5 to 10 (one or two a decade). A minute on one core.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

SOURCE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src")
sys.path.insert(0, str(SOURCE))

import torch  # noqa: E402
from torch import Tensor, nn, optim  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dcao import DCAO  # noqa: E402

NUM_STEPS = 200
GIVEN = (1e-7, 1e-3, 10.0)
SWEEP = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
BASES: dict[str, Callable[[list[nn.Parameter], float], optim.Optimizer]] = {
    "AdamW": lambda params, lr: optim.AdamW(params, lr=lr, weight_decay=0.0),
    "SGD 0.9": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
    "SGD": lambda params, lr: optim.SGD(params, lr=lr),
}
LossOf = Callable[[Tensor], Tensor]
Problem = tuple[Iterable[nn.Parameter], LossOf, int, int]  # params, loss of rows, number of rows, batch size


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def linear(noise: float = 0.0, unit: float = 1.0, batch: int = 64, loss: str = "ce") -> Callable[[], Problem]:
    """A linear model from zeros; ``unit`` is that of its inputs."""

    def make() -> Problem:
        x, true = torch.randn(512, 20), torch.randn(20, 5)
        scores, x, w, b = x @ true + noise * torch.randn(512, 5), unit * x, zeros(20, 5), zeros(5)
        y = scores.argmax(1)
        return {
            "ce": ([w, b], lambda i: F.cross_entropy(x[i] @ w + b, y[i]), 512, batch),
            "hinge": ([w, b], lambda i: F.multi_margin_loss(x[i] @ w + b, y[i]), 512, batch),
            "absolute": ([w, b], lambda i: F.l1_loss(x[i] @ w + b, scores[i]), 512, batch),
        }[loss]

    return make


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(1024, 20)
    return x, (torch.tanh(x) @ torch.randn(20, 5)).argmax(1)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))


def pretrained(x: Tensor, y: Tensor) -> nn.Sequential:
    """A frozen network that knows other labels for the same inputs."""
    net = network()
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.requires_grad_(False)


def zero_head() -> Problem:
    (x, y), net = data(), network()
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    return net.parameters(), lambda i: F.cross_entropy(net(x[i]), y[i]), 1024, 64


def zero_but_an_embedding() -> Problem:
    ids = torch.randint(0, 40, (1024,))
    table, hidden, head = nn.Embedding(40, 16), zeros(16, 16), zeros(16, 5)
    return (
        [table.weight, hidden, head],
        lambda i: F.cross_entropy((table(ids[i]) + table(ids[i]) @ hidden) @ head, ids[i] % 5),
        1024,
        64,
    )


def lora() -> Problem:
    x, y = data()
    net, a, b = pretrained(x, y), nn.Parameter(torch.randn(20, 4) / 4), zeros(4, 64)
    target = (x @ torch.randn(20, 5)).argmax(1)
    return [a, b], lambda i: F.cross_entropy(net[2](F.relu(net[0](x[i]) + x[i] @ a @ b)), target[i]), 1024, 64


def prompt() -> Problem:
    x, y = data()
    net, p = pretrained(x, y), zeros(8)
    return [p], lambda i: F.cross_entropy(net(torch.cat([p.expand(len(i), 8), x[i, 8:]], 1)), y[i]), 1024, 64


def adversarial() -> Problem:
    """The perturbation of at most 3 that raises the loss of a network most."""
    x, y = data()
    net, delta = pretrained(x, y), zeros(20)
    return (
        [delta],
        lambda i: -F.cross_entropy(net(x[i] + delta * (3.0 / delta.norm().clamp(min=3.0))), y[i]),
        1024,
        1024,
    )


def regression(
    *, offset: float = 0.0, scale: float = 1.0, unused: float = 0.0, unit: float = 1.0
) -> Callable[[], Problem]:
    """A network of ordinary weights; beside it an output bias of ``offset``, a ``scale``, an unused parameter."""

    def make() -> Problem:
        x, net = torch.randn(1024, 20), network()
        y = torch.tanh(x) @ torch.randn(20, 5)
        rest = [nn.Parameter(torch.full((5,), offset)), nn.Parameter(torch.tensor(scale))]
        idle = [nn.Parameter(torch.full((50,), unused))] if unused else []

        def loss(i: Tensor) -> Tensor:
            out = net(x[i]) * (rest[1] / scale) + rest[0] - offset
            return unit * F.mse_loss(out, y[i])

        return [*net.parameters(), *rest, *idle], loss, 1024, 64

    return make


def ratings() -> Problem:
    """Two embedding tables of N(0, 1), of whose rows a batch touches few."""
    u0, i0, user, item = torch.randn(5000, 4), torch.randn(2000, 4), nn.Embedding(5000, 16), nn.Embedding(2000, 16)
    users, items = torch.randint(0, 5000, (40000,)), torch.randint(0, 2000, (40000,))
    r = (u0[users] * i0[items]).sum(1) / 2
    return (
        [user.weight, item.weight],
        lambda b: F.mse_loss((user(users[b]) * item(items[b])).sum(1) / 4, r[b]),
        40000,
        512,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "logistic, separable": linear(batch=512),
    "logistic, noisy": linear(noise=2.0),
    "logistic, inputs times 1e-6": linear(noise=2.0, unit=1e-6),
    "logistic, inputs times 1e6": linear(noise=2.0, unit=1e6),
    "hinge": linear(noise=2.0, loss="hinge"),
    "absolute error": linear(loss="absolute"),
    "last layer zero": zero_head,
    "zero but an embedding": zero_but_an_embedding,
    "LoRA": lora,
    "prompt": prompt,
    "adversarial perturbation": adversarial,
    "ordinary": regression(),
    "output bias 1e4": regression(offset=1e4),
    "scale 1e3": regression(scale=1e3),
    "unused parameter": regression(unused=1e3),
    "loss times 1e-12": regression(unit=1e-12),
    "loss times 1e12": regression(unit=1e12),
    "ratings": ratings,
}


def trained(make: Callable[[], Problem], base: str, lr: float, *, wrap: dict[str, int | None] | None) -> float:
    """Loss on all rows at the end; of the bare base if ``wrap`` is None."""
    torch.manual_seed(0)
    params, loss_of, num_rows, batch = make()
    optimizer, draw = BASES[base](list(params), lr), torch.Generator().manual_seed(1)
    wrapped = None if wrap is None else DCAO(optimizer, total_steps=wrap["total_steps"])
    for _ in range(NUM_STEPS):
        rows = torch.randint(0, num_rows, (batch,), generator=draw) if batch < num_rows else torch.arange(num_rows)
        if wrapped is not None:
            wrapped.minimize(lambda rows=rows: loss_of(rows))
            continue
        optimizer.zero_grad()
        loss_of(rows).backward()
        optimizer.step()
    with torch.no_grad():
        loss = float(loss_of(torch.arange(num_rows)))
    return loss if math.isfinite(loss) else math.inf


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'problem':28s}{'base':9s}{'DCAO from 1e-7, 1e-3, 10':>36s}{'open':>12s}{'sweep (lr)':>22s}")
    for name, make in PROBLEMS.items():
        for base in BASES:
            known = [trained(make, base, lr, wrap={"total_steps": NUM_STEPS}) for lr in GIVEN]
            unknown = trained(make, base, 1e-3, wrap={"total_steps": None})
            best, lr = min((trained(make, base, lr, wrap=None), lr) for lr in SWEEP)
            shown = f"{known[0]:12.5g}" + (
                " (all three)" if len(set(known)) == 1 else f"{known[1]:12.5g}{known[2]:12.5g}"
            )
            print(f"{name:28s}{base:9s}{shown:>36s}{unknown:12.5g}{best:12.5g} ({lr:g})", flush=True)


if __name__ == "__main__":
    main()
