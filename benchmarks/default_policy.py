"""The default policy on workloads of the lab: one run a seed that nobody tuned, to see what a change of it does.

Run: python benchmarks/default_policy.py [WORKLOAD ...] (all that earlier decisions were made on, if none is given).
Prints the median of five seeds, and each seed with its largest lr, the lr under which a range test has put it, and the
share of its decay. Budgets are those of the studies, in gradient evaluations with probes; the metric is on test data.
About 10 minutes on one core; writes results/default_policy.json if no workload is given.
"""

from __future__ import annotations

import statistics
import sys

import torch

import dcao
from dcao.policies.noise import share_of_decay
from dcao_lab.baselines import get_baseline
from dcao_lab.workloads import WORKLOADS, StartRequest
from recorded import write_results

BUDGETS = {
    "digits_mlp": 400,
    "digits_resnet": 200,
    "mnist1d_conv": 1000,
    "pydoc_gpt": 300,
    "digits_mlp_16": 400,
    "digits_mlp_1024": 400,
    "digits_vit": 300,
    "mnist1d_mlp": 1000,
    "pydoc_lstm": 250,
}
SEEDS = (0, 1, 2, 3, 4)


def train(name: str, kind: str, seed: int) -> list[float | None]:
    """The metric, the largest lr, the lr at which the loss has turned up (None: it has not), the share of the decay."""
    workload = WORKLOADS[name]
    problem = workload.start(StartRequest(seed=seed))
    params = [p for p in problem.model.parameters() if p.requires_grad]
    adamw = kind == "adamw"
    base = torch.optim.AdamW(params, lr=1e-3) if adamw else torch.optim.SGD(params, lr=0.1, momentum=0.9)
    budget, largest = BUDGETS.get(name, workload.info.num_steps), 0.0
    num_steps = get_baseline(f"dcao:{kind}").steps_within(budget)
    optimizer = dcao.DCAO(base, total_steps=num_steps)
    for _ in range(num_steps):
        batch = next(problem.batches)
        optimizer.minimize(lambda batch=batch: problem.loss(batch))
        largest = max(largest, optimizer.param_groups[0]["lr"])
    problem.model.eval()
    state = optimizer.controller.policy_state
    metric = problem.evaluate("test")[workload.info.metric]
    return [metric, largest, state["turned"], share_of_decay(state["agreements"])]


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    for name in sys.argv[1:] or BUDGETS:
        for kind in ("adamw", "sgd"):
            runs = [train(name, kind, seed) for seed in SEEDS]
            results[f"{name} {kind}"] = runs
            each = "  ".join(f"{metric:.4g} ({lr:.2g}, {turned}, {share:.2g})" for metric, lr, turned, share in runs)
            print(f"{name} {kind}: median {statistics.median(run[0] for run in runs):.4g}  {each}", flush=True)
    if not sys.argv[1:]:
        write_results("default_policy", columns="metric largest_lr turned_at decay_share", runs=results)


if __name__ == "__main__":
    main()
