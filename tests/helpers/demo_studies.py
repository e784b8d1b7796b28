"""Made-up runs of the demo: sweeps of bare optimizers, and DCAO from the same initial learning rates."""

from dataclasses import replace

from dcao_lab.study import StudyResult, Variation
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, planned, result_of, study, task

LRS = tuple(10.0**exponent for exponent in range(-6, 1))
VARIATIONS = tuple(Variation(axis="lr", value=lr) for lr in LRS)
DCAO_SGD = replace(DCAO_ADAMW, name="dcao:sgd", title="DCAO(SGD)", optimizer="dcao:sgd", reference="sgd")
ARMS = (ADAMW, DCAO_ADAMW, SGD, DCAO_SGD)
MLP, CNN, GPT = task(), task("digits_cnn"), task("pydoc_gpt")
HILL = [0.1, 0.2, 0.5, 0.9, 0.97, 0.4, None]  # of the bare optimizers, from the smallest lr


def from_everywhere(arm, ends, *, on=MLP, seeds=(0.0, -0.01, 0.01), **changes):
    """Runs of three seeds around each of these medians, one for each learning rate; None diverged."""
    pairs = []
    for variation, end in zip(VARIATIONS, ends, strict=True):
        values = [None if end is None else end + seed for seed in seeds]
        pairs += finals(arm, values, variation=variation, lr=variation.value, on=on, **changes)
    return pairs


def demo_of(*groups, arms=(ADAMW, DCAO_ADAMW), tasks=(MLP,), num_missing=0):
    config = replace(study(*arms, tasks=tasks, variations=VARIATIONS), name="demo")
    result = result_of(config, *groups)
    return StudyResult(study=config, runs=result.runs, missing=(planned(ADAMW, 9),) * num_missing)


def six_cases():
    """Three workloads and both optimizers: DCAO is level, ahead or behind, and the sweeps diverge here and there."""
    falling = [90.0, 80.0, 50.0, 14.0, 10.0, 1e9, None]
    return demo_of(
        from_everywhere(ADAMW, HILL),
        from_everywhere(DCAO_ADAMW, [0.97] * 7),
        from_everywhere(SGD, [0.05, 0.05, 0.1, 0.6, 0.9, 0.98, None]),
        from_everywhere(DCAO_SGD, [0.9] * 6 + [0.6]),
        from_everywhere(ADAMW, [0.9, 0.97, 0.5, 0.4, 0.3, 0.2, 0.1], on=CNN),
        from_everywhere(DCAO_ADAMW, [0.99] * 7, on=CNN),
        from_everywhere(SGD, [None] * 7, on=CNN),
        from_everywhere(DCAO_SGD, [0.95] * 7, on=CNN),
        from_everywhere(ADAMW, falling, on=GPT, untrained=120.0),
        from_everywhere(DCAO_ADAMW, [9.0] * 7, on=GPT, untrained=120.0),
        from_everywhere(SGD, falling, on=GPT, untrained=120.0),
        from_everywhere(DCAO_SGD, [12.0] * 7, on=GPT, untrained=120.0),
        arms=ARMS,
        tasks=(MLP, CNN, GPT),
    )
