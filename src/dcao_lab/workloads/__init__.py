"""The workloads (a model with its data and loss) that runs can use, by name."""

from dcao_lab.errors import look_up
from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, Workload, WorkloadInfo
from dcao_lab.workloads.embedded import (
    digits_cnn,
    digits_eos_ce,
    digits_eos_mse,
    digits_mlp,
    digits_resnet,
    digits_vit,
    mnist1d_conv,
    mnist1d_mlp,
    pydoc_gpt,
    pydoc_lstm,
)
from dcao_lab.workloads.full_size import (
    cifar,
    imagenet,
    mnist_cnn,
    mnist_mlp,
    ptb_lstm,
    ptb_transformer,
    wikitext2_gpt2,
    wikitext2_lstm,
    wikitext2_transformer,
)

__all__ = [
    "WORKLOADS",
    "Batch",
    "Problem",
    "SplitName",
    "StartRequest",
    "Workload",
    "WorkloadInfo",
    "get_workload",
]

MODULES = (
    digits_cnn,
    digits_resnet,
    digits_vit,
    mnist1d_mlp,
    mnist1d_conv,
    pydoc_gpt,
    pydoc_lstm,
    digits_eos_ce,
    digits_eos_mse,
    mnist_mlp,
    mnist_cnn,
    ptb_lstm,
    ptb_transformer,
    wikitext2_lstm,
    wikitext2_transformer,
    wikitext2_gpt2,
)
FAMILIES = (cifar, imagenet)
ALL: tuple[Workload, ...] = (
    *digits_mlp.WORKLOADS,
    *(module.WORKLOAD for module in MODULES),
    *(workload for module in FAMILIES for workload in module.WORKLOADS),
)
WORKLOADS: dict[str, Workload] = {workload.info.name: workload for workload in ALL}


def get_workload(name: str) -> Workload:
    """The workload called ``name``, such as ``digits_mlp``.

    Raises:
        LabError: There is none of this name; the message lists those there are.

    Example:
        >>> get_workload("digits_mlp").info.metric
        'accuracy'
    """
    return look_up(WORKLOADS, name, "workload")
