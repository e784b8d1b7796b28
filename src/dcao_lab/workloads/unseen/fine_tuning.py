"""A GPT that knows Python's documentation, to be trained further on other text, and what it forgets by that."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, WorkloadInfo
from dcao_lab.workloads.language_stream import token_loss
from dcao_lab.workloads.networks.character_gpt import CONTEXT, CharacterGPT
from dcao_lab.workloads.pretraining import SEED, Weights, pretrained, train_once
from dcao_lab.workloads.text_windows import ascii_codes, random_windows
from dcao_lab.workloads.unseen.texts import documentation

BATCH_SIZE = 16
NUM_PRETRAINING_STEPS = 1500
NUM_WINDOWS = 96  # of a text, that are evaluated
TRAIN_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class FineTuningWorkload:
    """Prediction of the next character of a new text, from pretrained weights.

    Attributes:
        info: Facts about the workload.
        text: Returns the text; its last tenth is held out.
        adapt: Takes the pretrained network and returns the one to train.
    """

    info: WorkloadInfo
    text: Callable[[], str]
    adapt: Callable[[CharacterGPT], nn.Module] = lambda gpt: gpt

    def start(self, request: StartRequest) -> Problem:
        """The problem with random windows, and any new weights, from the seed of the request."""
        request.refuse_label_noise(self.info)
        train, held_out = (part.to(request.device) for part in train_and_held_out(ascii_codes(self.text())))
        windows: dict[SplitName, Batch] = {"train": fixed_windows(train), "test": fixed_windows(held_out)}
        windows["validation"] = windows["test"]
        old = fixed_windows(train_and_held_out(ascii_codes(documentation()))[1].to(request.device))
        model = request.built(lambda: self.adapt(pretrained_gpt()))
        batch_size = request.batch_size_within(self.info, len(train) // CONTEXT)
        return Problem(
            model=model,
            batches=random_windows(train, batch_size, CONTEXT, request.generator(purpose=1)),
            loss=lambda batch: token_loss(model, batch),
            evaluate=lambda split: {
                "loss": token_loss(model, windows[split]).item(),
                **({"old_domain_loss": token_loss(model, old).item()} if split == "test" else {}),
            },
            criterion=nn.CrossEntropyLoss(),
            batches_per_epoch=len(train) / (batch_size * CONTEXT),
        )


def train_and_held_out(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The text, and its last tenth."""
    cut = int(TRAIN_SHARE * len(codes))
    return codes[:cut], codes[cut:]


def fixed_windows(codes: Tensor) -> Batch:
    """The same random windows for every run."""
    return next(random_windows(codes, NUM_WINDOWS, CONTEXT, torch.Generator().manual_seed(5)))


def pretrained_gpt() -> CharacterGPT:
    """A GPT that has learned to predict Python's documentation."""
    gpt = CharacterGPT()
    gpt.load_state_dict(_weights())
    return gpt


@cache
def _weights() -> Weights:
    train, _ = train_and_held_out(ascii_codes(documentation()))

    def learn() -> nn.Module:
        model, order = CharacterGPT(), torch.Generator().manual_seed(SEED + 1)
        return train_once(model, random_windows(train, BATCH_SIZE, CONTEXT, order), token_loss, NUM_PRETRAINING_STEPS)

    return pretrained("character_gpt", train, learn)
