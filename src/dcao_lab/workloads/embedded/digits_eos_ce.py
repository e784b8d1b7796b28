"""Full-batch digits with cross-entropy, after Cohen et al. 2021 (see ``digits_eos``)."""

import torch.nn.functional as F

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.embedded.digits_eos import NUM_IMAGES, WIDTH, EdgeOfStabilityWorkload

INFO = WorkloadInfo(
    name="digits_eos_ce",
    title="Digits full batch, cross-entropy",
    summary=f"{NUM_IMAGES} scikit-learn digits at once, tanh network of 2 layers, width {WIDTH}, cross-entropy",
    metric="accuracy",
    higher_is_better=True,
    target=0.97,
    batch_size=NUM_IMAGES,
    num_steps=2000,
    eval_every=50,
    step_cost=7.0,
)

WORKLOAD = EdgeOfStabilityWorkload(INFO, F.cross_entropy)
