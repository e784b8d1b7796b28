"""Relative error of finite-difference Hessian products against step length, in float32, next to the default.

Run: python benchmarks/step_length.py. Prints a table and writes benchmarks/results/step_length.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from dcao.operators import FiniteDifferenceOperator, HessianOperator, default_step_length
from recorded import write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.cases import SMOOTH_CASES

STEPS = [10.0**exponent for exponent in (-4, -3.5, -3, -2.5, -2, -1.5, -1)]


def relative_error(exact_problem, problem, direction, kind, step_length=None):
    truth = HessianOperator(exact_problem.loss, exact_problem.params).matvec(direction.double())
    operator = FiniteDifferenceOperator(problem.loss, problem.params, kind=kind, step_length=step_length)
    return float((operator.matvec(direction.to(operator.dtype)).double() - truth).norm() / truth.norm())


def rows():
    for case in SMOOTH_CASES:
        exact, problem = case.problem(), case.problem(torch.float32)
        direction = torch.randn(problem.size, generator=torch.Generator().manual_seed(0))
        for kind in ("central", "forward"):
            yield {
                "network": case.name,
                "kind": kind,
                "default_step_length": default_step_length(problem.params, kind),
                "default_error": relative_error(exact, problem, direction, kind),
                "errors": {step: relative_error(exact, problem, direction, kind, step) for step in STEPS},
            }


def main() -> None:
    table = list(rows())
    print("network             kind     default (error)      " + "".join(f"{step:>9.1e}" for step in STEPS))
    for row in table:
        errors = "".join(f"{error:9.1e}" for error in row["errors"].values())
        default = f"{row['default_step_length']:.1e} ({row['default_error']:.1e})"
        print(f"{row['network']:19s} {row['kind']:8s} {default:20s} {errors}")
    write_results("step_length", rows=table)


if __name__ == "__main__":
    main()
