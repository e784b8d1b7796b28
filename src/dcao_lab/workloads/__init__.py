"""The workloads, by name."""

from dcao_lab.errors import look_up
from dcao_lab.workloads import digits_cnn, digits_mlp, pydoc_gpt
from dcao_lab.workloads.base import Batch, Problem, Workload, WorkloadInfo

__all__ = ["WORKLOADS", "Batch", "Problem", "Workload", "WorkloadInfo", "get_workload"]

WORKLOADS: dict[str, Workload] = {
    module.WORKLOAD.info.name: module.WORKLOAD for module in (digits_mlp, digits_cnn, pydoc_gpt)
}


def get_workload(name: str) -> Workload:
    """The workload called ``name``.

    Example:
        >>> get_workload("digits_mlp").info.metric
        'accuracy'
    """
    return look_up(WORKLOADS, name, "workload")
