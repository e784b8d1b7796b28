"""The data of the tasks, all of it on the disk already."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and labels of 1400 training digits, and of the 397 others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1400], y[:1400], x[1400:], y[1400:]


def english() -> Tensor:
    """Python's documentation."""
    from pydoc_data.topics import topics

    return as_bytes("\n".join(topics[key] for key in sorted(topics)))


def licences() -> Tensor:
    """The licences that Debian has on every machine."""
    folder = Path("/usr/share/common-licenses")
    names = ("GPL-3", "LGPL-2.1", "Apache-2.0", "GFDL-1.3", "MPL-2.0", "Artistic")
    return as_bytes("\n".join((folder / name).read_text(errors="replace") for name in names))


def as_bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode("ascii", "replace")))
