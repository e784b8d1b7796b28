"""Python's own documentation, which every Python carries, read character by character."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, WorkloadInfo, build_seeded, generator

BATCH_SIZE = 32
CONTEXT = 32
VOCABULARY = 128  # ASCII; the few other characters of the text are read as "?"
BLOCK = 4096  # characters; every tenth block is test data, so that both halves cover the whole text
TEST_WINDOWS = 256


@dataclass(frozen=True)
class PydocWorkload:
    """Prediction of the next character by the network that ``build`` makes."""

    info: WorkloadInfo
    build: Callable[[], nn.Module]

    def start(self, seed: int) -> Problem:
        """Fresh weights, and random windows of the training text."""
        train, test = text_split()
        model = build_seeded(self.build, seed)
        test_batch = test_windows(test)
        return Problem(
            model=model,
            batches=random_windows(train, generator(seed, purpose=1)),
            loss=lambda batch: next_character_loss(model, batch),
            evaluate=lambda: language_metrics(model, test_batch),
        )


@cache
def text_split() -> tuple[Tensor, Tensor]:
    """Training and test text as ASCII codes."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    codes = torch.tensor(list(text.encode("ascii", errors="replace")), dtype=torch.long)
    blocks = codes.split(BLOCK)
    train = [block for index, block in enumerate(blocks) if index % 10 != 9]
    test = [block for index, block in enumerate(blocks) if index % 10 == 9]
    return torch.cat(train), torch.cat(test)


def random_windows(text: Tensor, order: torch.Generator) -> Iterator[Batch]:
    """Batches without end of windows that start anywhere."""
    offsets = torch.arange(CONTEXT + 1)
    while True:
        starts = torch.randint(len(text) - CONTEXT, (BATCH_SIZE, 1), generator=order)
        windows = text[starts + offsets]
        yield windows[:, :-1], windows[:, 1:]


def test_windows(text: Tensor) -> Batch:
    """The same windows for every run, spread evenly over the test text."""
    starts = torch.linspace(0, len(text) - CONTEXT - 1, TEST_WINDOWS).long().unsqueeze(1)
    windows = text[starts + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]


def next_character_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats a character."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def language_metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Cross-entropy and perplexity a character; the perplexity of a loss beyond 700 is infinite."""
    loss = next_character_loss(model, batch).item()
    return {"test_loss": loss, "perplexity": math.exp(loss) if loss < 700.0 else math.inf}
