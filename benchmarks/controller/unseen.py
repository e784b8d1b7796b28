"""Tasks unlike those that the default was developed on, against sweeps of its bases and lr-free peers.

    python unseen.py                                   # every task, every arm; resumes what is there
    python unseen.py --tasks siren,mf --arms dcao,adamw,sgd
    python unseen.py --arms dcao --variant max_relative_step=0.3,target=4     # the default policy with other constants
    python unseen.py --trace siren --base sgd --seed 0                       # every decision of one run
    python unseen.py --starts                          # does the lr that is given matter? 40 steps from three of them
    python unseen.py --table                           # the results as a Markdown table

Each run gets the same number of gradient evaluations (its ``budget``), DCAO's probes included. Results go to
``$UNSEEN_OUT/results.jsonl`` (default unseen-results), one line a run; a run that is there is not made again.
Arms: dcao (total_steps known), open (not known; also with averaged weights), adamw and sgd (constant and cosine sweeps,
widened until the best lr is inside), peers.
"""

from __future__ import annotations

import argparse
import json
import math

import torch

from arms import GIVEN_LR, base_optimizer, run
from dcao import DCAO, MemoryRecorder
from records import OUT
from sweeps import jobs_of, next_of_sweep, work_off
from table import write_table
from tasks import TASKS, pretrained_gpt

STARTS = (1e-6, 10.0)


def main() -> None:
    torch.set_num_threads(1)
    args = parse()
    if args.table:
        print(write_table(args.variant))
    elif args.starts:
        compare_starts(args.tasks.split(","))
    elif args.trace:
        trace(args.trace, args.base, args.seed, args.variant)
    else:
        run_all(args.tasks.split(","), args.arms.split(","), args.variant, args.workers)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--arms", default="dcao,adamw,sgd,peers,open")
    parser.add_argument(
        "--variant",
        default="",
        help="constants of the default policy, as name=value,name=value; also for --trace and --table",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trace", metavar="TASK", help="print every decision of one run of DCAO")
    parser.add_argument("--base", default="adamw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", action="store_true")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def run_all(names: list[str], arms: list[str], variant: str, workers: int) -> None:
    """What is not there yet: first the runs without a sweep, then the sweeps until their best lrs are inside."""
    OUT.mkdir(parents=True, exist_ok=True)
    if "ft_gpt" in names:
        pretrained_gpt()  # once, before the workers want it
    sweeps = [
        (name, f"{base}-{shape}") for base in GIVEN_LR if base in arms for name in names for shape in ("const", "cos")
    ]
    with torch.multiprocessing.get_context("spawn").Pool(workers) as pool:
        work_off(pool, [job for arm in arms for name in names for job in jobs_of(name, arm, variant)])
        while jobs := [job for name, arm in sweeps for job in next_of_sweep(name, arm)]:
            work_off(pool, jobs)


def trace(name: str, base: str, seed: int, variant: str) -> None:
    """Print every decision of one run of DCAO, then its results."""
    recorder = MemoryRecorder()
    job = {"task": name, "arm": f"dcao-{base}", "lr": GIVEN_LR[base], "seed": seed, "variant": variant}
    result = run(job, recorder)
    for record in recorder.records:
        seen, loss = record.observation, math.nan if record.loss is None else record.loss
        numbers = "" if seen is None else f"s {seen.s or math.nan:8.3g} l {seen.relative_step or math.nan:8.3g}"
        print(f"{record.step:5d} loss {loss:10.4g} {numbers} {record.decision.reason}")
    print(json.dumps(result))


def compare_starts(names: list[str]) -> None:
    """Print whether loss and lr after some steps from three lrs are the same to the last bit."""
    for name in names:
        for base, given in GIVEN_LR.items():
            ends = [end_of(name, base, lr) for lr in (given, *STARTS)]
            print(name, base, "same" if len(set(ends)) == 1 else f"DIFFERENT {ends}", flush=True)


def end_of(name: str, base: str, lr: float, steps: int = 40) -> tuple[float, float]:
    """Loss and lr after some steps."""
    torch.manual_seed(1000)
    task, spec = TASKS[name].build(0), TASKS[name]
    params = [p for p in task.model.parameters() if p.requires_grad]
    torch.manual_seed(2000)
    optimizer = DCAO(base_optimizer(base, params, lr, spec), total_steps=spec.budget)
    for _ in range(steps):
        batch = task.batch()
        loss = optimizer.minimize(lambda batch=batch: task.loss(batch))
    return loss.item(), optimizer.param_groups[0]["lr"]


if __name__ == "__main__":
    main()
