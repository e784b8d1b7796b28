"""Sharpness and s over training, full-batch and in mini-batches: where each optimizer is beside the edge."""

from dcao_lab.config import Setting
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
PLAIN: dict[str, Setting] = {"momentum": 0.0}  # gradient descent without momentum, as the theory of the edge has it
SGD_RATES = (0.05, 0.2)  # slow and fast progressive sharpening of the full-batch workloads; see digits_eos.py
ADAMW_RATES = (1e-3, 1e-2)


def eos(size: str) -> StudyConfig:
    """The study at ``size``."""
    amount = amount_of(SIZES, size)
    return StudyConfig(
        name="eos",
        size=size,
        title="At the edge of stability",
        question="Where are the sharpness and s during training, and where do DCAO and the proposal's rule hold s?",
        tasks=tasks(amount),
        arms=(
            *_with_dcao("sgd", PLAIN, SGD_RATES),
            *_with_dcao("adamw", {}, ADAMW_RATES),
        ),
        seeds=amount.seeds,
        watching=Watching(seeds=tuple(range(amount.num_watched)), spectra=amount.spectra),
    )


def _with_dcao(base: str, settings: dict[str, Setting], rates: tuple[float, ...]) -> tuple[Arm, ...]:
    """DCAO as it comes once, since it starts alike from any lr; the rest from each."""
    bare = {lr: arm(base, settings, lr=lr, group=f"{base} from {lr:g}") for lr in rates}
    proposals = ((f"dcao:{base}", {**settings, "rule": "proposal"}), (f"dcao-literal:{base}", settings))
    return (
        arm(f"dcao:{base}", settings, reference=bare[rates[0]].name, group=f"DCAO({base})"),
        *bare.values(),
        *(
            arm(name, own, lr=lr, reference=bare[lr].name, group=bare[lr].group)
            for lr in rates
            for name, own in proposals
        ),
    )
