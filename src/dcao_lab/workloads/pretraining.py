"""Networks that fine-tuning starts from: trained once on a machine, then read from its cache."""

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from dcao_lab.errors import LabError
from dcao_lab.files.whole import write_whole
from dcao_lab.workloads.base import Batch

RECIPE = 1  # raise it when the same data would give other weights: old files are then left alone
SEED = 123
LR = 3e-3
WARMUP = 0.05  # of the steps

Weights = dict[str, Tensor]


def pretrained(name: str, data: Tensor, train: Callable[[], nn.Module]) -> Weights:
    """The weights of the network that ``train`` returns, from the cache or made now.

    They are the same whoever makes them, and written whole: processes that need them at once all make them, and no
    process reads half a file. The cache is the folder ``dcao_lab`` in that of torch's hub, ``~/.cache/torch/hub``
    unless ``$TORCH_HOME`` says otherwise.

    Args:
        name: What the file is called, beside a fingerprint of all that decides its content.
        data: What the network is trained on.
        train: Trains it; called with one thread, and a random stream of its own.

    Raises:
        LabError: The cache cannot be written.
    """
    path = cached_file(name, data)
    if not path.exists():
        _keep(path, _weights(train))
    weights: Weights = torch.load(path)
    return weights


def cached_file(name: str, data: Tensor) -> Path:
    """Where the weights are kept; other data, another torch and another recipe have files of their own."""
    content = f"{RECIPE} {torch.__version__} {data.dtype} {tuple(data.shape)} ".encode() + data.numpy().tobytes()
    return Path(torch.hub.get_dir()) / "dcao_lab" / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.pt"


def train_once(
    model: nn.Module, batches: Iterator[Batch], loss: Callable[[nn.Module, Batch], Tensor], num_steps: int
) -> nn.Module:
    """``model`` after AdamW with warmup and cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, num_steps, pct_start=WARMUP)
    for batch in islice(batches, num_steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(model, batch))
        optimizer.step()
        schedule.step()
    return model


def _weights(train: Callable[[], nn.Module]) -> Weights:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so their last bits, depend on it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            return train().state_dict()
    finally:
        torch.set_num_threads(threads)


def _keep(path: Path, weights: Weights) -> None:
    content = io.BytesIO()
    torch.save(weights, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        raise LabError(
            f"pretrained weights cannot be kept in {path.parent} ({error.strerror}); "
            "set TORCH_HOME to a folder that can be written"
        ) from error
