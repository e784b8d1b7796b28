"""Sharpness and s over training, full-batch and in mini-batches: where each optimizer is beside the edge."""

from dcao_lab.study.config import Arm, StudyConfig, Watching
from dcao_lab.study.recipes.parts import Amount, amount_of, arm, own_steps, tasks

SIZES = {
    "embedded": Amount(
        steps={"digits_eos_mse": 800, "digits_eos_ce": 800, "digits_cnn": 500, "digits_vit": 400},
        num_seeds=1,
        num_watched=1,
        spectra=40,
    ),
    "small": Amount(
        steps={**own_steps("digits_eos_mse", "digits_eos_ce"), **own_steps("mnist_cnn", "cifar10_resnet18")},
        num_seeds=1,
        num_watched=3,
        spectra=50,
    ),
    "full": Amount(
        steps=own_steps("digits_eos_mse", "digits_eos_ce", "cifar10_resnet18", "cifar10_vit", "ptb_transformer"),
        num_seeds=3,
        num_watched=3,
        spectra=100,
    ),
}
PLAIN = {"momentum": 0.0}  # gradient descent without momentum, as the theory of the edge has it
SGD_RATES = (0.05, 0.2)  # slow and fast progressive sharpening of the full-batch workloads; see digits_eos.py
ADAMW_RATES = (1e-3, 1e-2)


def eos(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="eos",
        size=size,
        title="At the edge of stability",
        question="Where are the sharpness and s during training, and does DCAO hold s below the edge?",
        tasks=tasks(amount),
        arms=(
            *(member for lr in SGD_RATES for member in _with_dcao("sgd", PLAIN, lr)),
            *(member for lr in ADAMW_RATES for member in _with_dcao("adamw", {}, lr)),
        ),
        seeds=amount.seeds,
        watching=Watching(seeds=tuple(range(amount.num_watched)), spectra=amount.spectra),
    )


def _with_dcao(base: str, settings: dict[str, float], lr: float) -> tuple[Arm, ...]:
    bare = arm(base, settings, lr=lr, group=f"{base} from {lr:g}")
    wrapped = (f"dcao:{base}", f"dcao-literal:{base}")
    return (bare, *(arm(name, settings, lr=lr, reference=bare.name, group=bare.group) for name in wrapped))
