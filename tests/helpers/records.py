"""Records with all that can be in them, for what writes records and reads them."""

from __future__ import annotations

import math
from dataclasses import replace

from dcao import CurvatureEstimate, LanczosStatus, StepRecord
from dcao.policies import Decision, Hyperparameters, Observation

HERE = Hyperparameters(lr=0.1, momentum=None, weight_decay=0.01)
ESTIMATE = CurvatureEstimate(
    step=3,
    measure="load",
    loss=math.nan,
    s=math.inf,
    stability={"load": math.inf, "batch": -math.inf, "hessian": 1.25},
    trust=0.5,
    sharpness=7.0,
    ritz_values=(7.0, -1.0),
    residuals=(0.1, math.nan),
    status=LanczosStatus.MAX_STEPS,
    num_matvecs=4,
    cost=9.0,
    hvp="exact",
    reason="all that can go wrong: ünïcode\u2028and a line\nbreak",
)
RECORD = StepRecord(
    step=3,
    loss=None,
    estimate=ESTIMATE,
    observation=Observation(step=3, s=math.inf, trust=0.5, hyperparameters=HERE),
    decision=Decision(hyperparameters=replace(HERE, lr=0.08), reason="s inf against target 1.5", probe_again=True),
    before=HERE,
    after=replace(HERE, lr=0.08),
    cost=9.0,
    total_cost=21.0,
    seconds=0.125,
)
SKIPPED = Decision(hyperparameters=HERE, reason="guard")
GUARD = replace(RECORD, step=4, estimate=None, observation=None, decision=SKIPPED)
