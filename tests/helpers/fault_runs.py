"""A training that saves checkpoints as it goes, for tests that interrupt it in the middle of a probe."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from dcao import DCAO, is_probing

NUM_STEPS, PROBED, EVERY = 24, 10, 5
"""The step whose probe is interrupted, and between probes; a checkpoint is saved after every fourth step."""


class Job:
    """A small network, its data and its optimizer.

    Attributes:
        interrupt: Called by the loss in the probe of step ``PROBED``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        torch.manual_seed(0)
        # No BatchNorm: the forward pass of a step that is interrupted has moved its statistics, in bare torch too.
        self.model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3))
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(NUM_STEPS, 32, 6, generator=generator)
        self.optimizer = DCAO(torch.optim.AdamW(self.model.parameters(), lr=1e-3), every=EVERY)
        self.folder, self.step, self.losses = folder, 0, list[float]()
        self.interrupt = lambda: None

    def loss(self) -> Tensor:
        loss = self.evaluate(self.inputs[self.step])
        if is_probing() and self.step == PROBED:
            self.interrupt()
        return loss

    def evaluate(self, inputs: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.model(inputs), inputs[:, :3].argmax(1))

    def advance(self) -> None:
        self.losses.append(float(self.optimizer.minimize(self.loss)))
        self.step += 1

    def weights(self) -> list[Tensor]:
        return [value.clone() for value in self.model.state_dict().values()]

    @property
    def path(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Whole or not at all: written beside the last one, and then put into its place."""
        beside = self.path.with_suffix(".new")
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**states, "step": self.step, "losses": self.losses}, beside)
        os.replace(beside, self.path)

    def load(self) -> None:
        saved = torch.load(self.path)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.losses = saved["step"], saved["losses"]

    def run(self) -> None:
        while self.step < NUM_STEPS:
            self.advance()
            if self.folder is not None and self.step % 4 == 0:
                self.save()


def main(folder: Path, handling: str) -> None:
    """Run until SIGTERM arrives in the middle of a probe; ``handling`` says what the program does then."""
    job = Job(folder)
    job.interrupt = lambda: os.kill(os.getpid(), signal.SIGTERM)
    if handling == "saves":
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
    try:
        job.run()
    except SystemExit:
        job.save()
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
