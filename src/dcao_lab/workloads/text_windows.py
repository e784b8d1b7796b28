"""Text read character by character, in windows that start at random positions."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dcao_lab.workloads.base import Batch

VOCABULARY = 128  # ASCII


def ascii_codes(text: str) -> Tensor:
    """The characters as ASCII codes; the few others are read as ``?``.

    Example:
        >>> ascii_codes("naïve").tolist()
        [110, 97, 63, 118, 101]
    """
    return torch.tensor(list(text.encode("ascii", errors="replace")), dtype=torch.long)


def random_windows(text: Tensor, batch_size: int, context: int, order: torch.Generator) -> Iterator[Batch]:
    """An endless stream of batches: ``context`` characters of the text, and the ones that follow each of them."""
    offsets = torch.arange(context + 1, device=text.device)
    while True:
        starts = torch.randint(len(text) - context, (batch_size, 1), generator=order).to(text.device)
        windows = text[starts + offsets]
        yield windows[:, :-1], windows[:, 1:]
