"""Full-batch digits with the squared loss, after Cohen et al. 2021 (see ``digits_eos``)."""

from dcao_lab.workloads.base import WorkloadInfo
from dcao_lab.workloads.embedded.digits_eos import NUM_IMAGES, WIDTH, EdgeOfStabilityWorkload, squared_loss

INFO = WorkloadInfo(
    name="digits_eos_mse",
    title="Digits full batch, squared loss",
    summary=f"{NUM_IMAGES} scikit-learn digits at once, tanh network of 2 layers, width {WIDTH}, squared loss",
    metric="accuracy",
    higher_is_better=True,
    target=0.97,
    batch_size=NUM_IMAGES,
    num_steps=2000,
    eval_every=50,
    step_cost=7.0,
)

WORKLOAD = EdgeOfStabilityWorkload(INFO, squared_loss)
