"""The workloads (a model with its data and loss) that runs can use, by name."""

from dcao_lab.errors import look_up
from dcao_lab.workloads.base import Batch, Problem, SplitName, StartRequest, Workload, WorkloadInfo
from dcao_lab.workloads.embedded import (
    digits_cnn,
    digits_eos,
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
    cifar10_efficientnet_ft,
    cifar10_resnet20,
    imagenet,
    mnist,
    wikitext2_gpt2,
    wikitext2_small,
    word_lstm,
    word_transformer,
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
    *(digits_mlp, digits_cnn, digits_resnet, digits_vit, mnist1d_mlp, mnist1d_conv, pydoc_gpt, pydoc_lstm, digits_eos),
    *(mnist, word_lstm, word_transformer, wikitext2_small, wikitext2_gpt2),
    *(cifar, cifar10_resnet20, cifar10_efficientnet_ft, imagenet),
)
ALL: tuple[Workload, ...] = tuple(workload for module in MODULES for workload in module.WORKLOADS)
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
