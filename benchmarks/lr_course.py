"""The picture of docs/learning-rate.md: what lr, the relative step and s do in one run, from three initial lrs.

Run: python benchmarks/lr_course.py. Writes docs/images/lr-course.png (half a minute).
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import dcao
from dcao_lab.workloads import WORKLOADS, StartRequest

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "lr-course.png"
RUNS = (("pydoc_gpt", "AdamW", 375), ("digits_cnn", "SGD", 375))
GIVEN = {1e-7: ("#9ec5ea", 6.0), 1e-3: ("#e8a33d", 3.0), 10.0: ("#1d5e36", 1.0)}  # the lines lie on one another
LIMITS = dcao.policies.Ceiling()  # the default policy


def course(workload: str, optimizer: str, lr: float, num_steps: int) -> tuple[list[float], list[dcao.StepRecord]]:
    """Lr of every step, and the records of the probes."""
    problem = WORKLOADS[workload].start(StartRequest(seed=0))
    params = problem.model.parameters()
    base = torch.optim.AdamW(params, lr=lr) if optimizer == "AdamW" else torch.optim.SGD(params, lr=lr, momentum=0.9)
    recorder, lrs = dcao.MemoryRecorder(), []
    wrapped = dcao.DCAO(base, total_steps=num_steps, recorder=recorder)
    for _ in range(num_steps):
        batch = next(problem.batches)
        wrapped.minimize(lambda batch=batch: problem.loss(batch))
        lrs.append(wrapped.effective_lrs[0])
    return lrs, recorder.records


def draw(axes: list[Axes], workload: str, optimizer: str, num_steps: int) -> None:
    """Three panels, one above the other."""
    for lr, (color, width) in GIVEN.items():
        lrs, records = course(workload, optimizer, lr, num_steps)
        probed = [record for record in records if record.observation is not None]
        # A probe is before the step, and its decision acts at once: what it saw is scaled to the lr that trained.
        scale = [record.after.lr / record.before.lr for record in probed]
        lengths = [(r.observation.relative_step or 0.0) * f for r, f in zip(probed, scale, strict=True)]
        numbers = [(r.observation.s or 0.0) * f for r, f in zip(probed, scale, strict=True)]
        steps = [record.step for record in probed]
        axes[0].plot(lrs, color=color, linewidth=width, label=f"given {lr:g}")
        axes[1].plot(steps, lengths, ".-", color=color, markersize=3, linewidth=0.7 * width)
        axes[2].plot(steps, numbers, ".-", color=color, markersize=3, linewidth=0.7 * width)
    axes[0].set(title=f"{workload}, {optimizer}", yscale="log", ylabel="lr that trains")
    axes[0].legend(frameon=False)
    axes[1].axhline(LIMITS.max_relative_step, color="0.3", linestyle="--", linewidth=0.8)
    axes[1].set(yscale="log", ylabel="relative step l", ylim=(3e-4, 1.0))
    axes[2].axhline(LIMITS.target, color="0.3", linestyle="--", linewidth=0.8)
    axes[2].axhline(2.0, color="0.6", linestyle=":", linewidth=0.8)
    axes[2].set(ylabel="s", xlabel="step", ylim=(-2.0, 16.0))


def main() -> None:
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    figure, axes = plt.subplots(3, len(RUNS), figsize=(9.0, 7.0), sharex="col", constrained_layout=True)
    for column, (workload, optimizer, num_steps) in enumerate(RUNS):
        draw(list(axes[:, column]), workload, optimizer, num_steps)
    figure.savefig(PICTURE, dpi=130)


if __name__ == "__main__":
    main()
