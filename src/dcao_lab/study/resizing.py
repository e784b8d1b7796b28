"""A study made smaller, to try it out."""

from dataclasses import replace

from dcao_lab.study.config import StudyConfig, Task


def resized(study: StudyConfig, num_steps: int | None = None, num_seeds: int | None = None) -> StudyConfig:
    """The study with other numbers of training steps and of seeds; None leaves them. It is another study then."""
    tasks = study.tasks if num_steps is None else tuple(_shortened(task, num_steps) for task in study.tasks)
    return replace(study, tasks=tasks, seeds=study.seeds if num_seeds is None else tuple(range(num_seeds)))


def _shortened(task: Task, num_steps: int) -> Task:
    share = num_steps / task.num_steps
    return replace(
        task,
        num_steps=num_steps,
        eval_every=max(1, round(task.eval_every * share)),
        budget=None if task.budget is None else task.budget * share,
    )
