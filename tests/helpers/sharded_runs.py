"""One small network, trained whole in one process or in shards on several, on the same global batches."""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from dcao import DCAO, MemoryRecorder

BATCH = 16
WAYS = {"fully_shard": 2, "hybrid": 4, "tensor-parallel": 2, "both": 4}
"""How parameters are spread, and over how many ranks."""


class Network(nn.Module):
    """Sizes that two and four ranks do not divide, so that shards are uneven."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)
        self.to(dtype)
        self.num_calls = 0

    def forward(self, x):
        """Depends on how often it has been called, which a probe has to put back."""
        self.num_calls += 1
        hidden = self.norm(self.first(x).tanh())
        return self.last(self.second(hidden).tanh()) * (1.0 + 0.1 / self.num_calls)


def data(steps, dtype):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(steps, BATCH, n, generator=generator, dtype=torch.float64).to(dtype) for n in (5, 3)]


def sharded(way, model, rank):
    """The model in shards, and the rows of a global batch that this rank trains on."""
    if way == "whole":
        return model, slice(None)
    world = WAYS[way]
    if way == "fully_shard":
        mesh, num_parts, part = init_device_mesh("cpu", (world,)), world, rank
        fully_shard([model.norm, model.second], mesh=mesh)
        fully_shard(model, mesh=mesh)
    elif way == "hybrid":
        mesh, num_parts, part = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards")), world, rank
        fully_shard(model.second, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        sizes = (world,) if way == "tensor-parallel" else (2, 2)
        mesh = init_device_mesh("cpu", sizes, mesh_dim_names=("dp", "tp")[-len(sizes) :])
        parallelize_module(model.second, mesh["tp"], ColwiseParallel())
        parallelize_module(model.last, mesh["tp"], RowwiseParallel())
        num_parts, part = (1, 0) if way == "tensor-parallel" else (2, rank // 2)
        if way == "both":
            fully_shard(model.second, mesh=mesh["dp"])
            fully_shard(model, mesh=mesh["dp"])
    share = BATCH // num_parts
    return model, slice(part * share, (part + 1) * share)


def train(
    rank,
    way,
    steps,
    dtype=torch.float64,
    base=torch.optim.AdamW,
    lr=1e-3,
    entry="minimize",
    spoils=None,
    blows_up_at=None,
    **settings,
):
    """What each probe measured and the run decided, and the weights at the end.

    ``spoils`` has factors on the inputs of steps, one for each rank; ``blows_up_at`` is a step before which somebody
    multiplies the weights by 1e4.
    """
    model, rows = sharded(way, Network(dtype), rank)
    optimizer = DCAO(base(model.parameters(), lr=lr), recorder=MemoryRecorder(), **settings)
    lrs = []
    for step, (x, y) in enumerate(zip(*data(steps, dtype), strict=True)):
        if step in (spoils or {}):
            x[rows] *= spoils[step][rank]
        if step == blows_up_at:
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1e4)

        def loss_fn(x=x[rows], y=y[rows]):
            return nn.functional.mse_loss(model(x), y)

        def closure(loss_fn=loss_fn):
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            return loss

        if entry == "minimize":
            optimizer.minimize(loss_fn)
        elif entry == "by hand, after a validation":
            with torch.no_grad():
                model(x[rows])
            optimizer.probe_if_due(loss_fn)
            optimizer.zero_grad()
            loss_fn().backward()
            optimizer.step()
        elif entry == "parts":
            halves = [slice(None, None, 2), slice(1, None, 2)]
            parts = [lambda h=h, x=x, y=y: nn.functional.mse_loss(model(x[rows][h]), y[rows][h]) for h in halves]
            optimizer.minimize(parts, clip_norm=0.1)
        else:
            optimizer.step(closure)
        lrs.append(optimizer.effective_lrs[0])
    records = [
        {"s": e.s, "loss": e.loss, "stability": e.stability, "trust": e.trust, "relative_step": e.relative_step}
        | {"agreement": e.agreement, "load_signal": e.load_signal, "ritz_values": e.ritz_values, "smallest": e.smallest}
        | {"reason": e.reason, "cost": e.cost, "num_matvecs": e.num_matvecs}
        for record in optimizer.loop.recording.recorder.records
        if (e := record.estimate) is not None
    ]
    weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return {
        "records": records,
        "lrs": lrs,
        "weights": torch.cat([w.detach().reshape(-1) for w in weights]),
        "skipped": (optimizer.num_skipped, optimizer.num_restored),
    }
