"""Python's own documentation, which comes with every Python, read character by character."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo
from dcao_lab.workloads.language_stream import perplexity, token_loss
from dcao_lab.workloads.text_windows import ascii_codes, random_windows

BATCH_SIZE = 32
CONTEXT = 32
BLOCK = 4096  # characters; one of ten blocks is for validation and one for testing, so splits cover all of the text
HELD_OUT = {4: "validation", 9: "test"}  # by the last digit of a block's number
NUM_WINDOWS = 256  # number of windows of a split that are evaluated


@dataclass(frozen=True)
class PydocWorkload:
    """Prediction of the next character by the network that ``build`` returns."""

    info: WorkloadInfo
    build: Callable[[], nn.Module]

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights and random windows of the training text from the seed of the request."""
        request.refuse_label_noise(self.info)
        texts = {name: text.to(request.device) for name, text in text_splits().items()}
        model = request.built(self.build)
        batch_size = request.batch_size_within(self.info, len(texts["train"]) // CONTEXT)
        return Problem(
            model=model,
            batches=random_windows(texts["train"], batch_size, CONTEXT, request.generator(purpose=1)),
            loss=lambda batch: token_loss(model, batch),
            evaluate=lambda split: language_metrics(model, fixed_windows(texts[split])),
            criterion=nn.CrossEntropyLoss(),
            batches_per_epoch=len(texts["train"]) / (batch_size * CONTEXT),
        )


@cache
def text_splits() -> dict[SplitName, Tensor]:
    """The text of each split as ASCII codes."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    blocks = torch.split(ascii_codes(text), BLOCK)
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    chosen = [HELD_OUT.get(index % 10, "train") for index in range(len(blocks))]
    return {name: torch.cat([block for block, of in zip(blocks, chosen, strict=True) if of == name]) for name in names}


def fixed_windows(text: Tensor) -> Batch:
    """Windows that are spread evenly over the text, the same for every run."""
    starts = torch.linspace(0, len(text) - CONTEXT - 1, NUM_WINDOWS).long().unsqueeze(1)
    windows = text[(starts + torch.arange(CONTEXT + 1)).to(text.device)]
    return windows[:, :-1], windows[:, 1:]


def language_metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """``loss``, the cross-entropy in nats a character, and ``perplexity``, infinite for a loss of 700 or more."""
    loss = token_loss(model, batch).item()
    return {"loss": loss, "perplexity": perplexity(loss)}
