"""What there is to train, to train with and to study, as tables."""

from rich.console import Console
from rich.table import Column, Table

from dcao_lab.baselines import BASELINES
from dcao_lab.study.recipes import RECIPES
from dcao_lab.workloads import WORKLOADS


def show(console: Console) -> None:
    """Print the names of all workloads, optimizers and studies."""
    workloads = Table(Column("workload", no_wrap=True), "what it is", "steps", "needs", box=None, pad_edge=False)
    for name, workload in WORKLOADS.items():
        workloads.add_row(name, workload.info.summary, str(workload.info.num_steps), workload.info.needs or "")
    optimizers = Table("optimizer", "what it is", box=None, pad_edge=False)
    for name, baseline in BASELINES.items():
        optimizers.add_row(name, baseline.title)
    studies = Table("study", "what it asks", box=None, pad_edge=False)
    for name, recipe in RECIPES.items():
        studies.add_row(name, recipe("small").question)
    console.print(workloads, "", optimizers, "", studies)
