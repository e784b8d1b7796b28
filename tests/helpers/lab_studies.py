"""Small studies for the tests of the lab, and an executor that needs no processes."""

import contextlib
from types import SimpleNamespace

from rich.console import Console

from dcao_lab.execution.executors import Executor
from dcao_lab.runs.runner import Outcome, run
from dcao_lab.study import Arm, StudyConfig, Task, Tuning, Watching


def tiny_study(**changes):
    """Two arms on one workload for a few steps: 6 trials, 4 final runs and 2 watched ones."""
    settings = {
        "name": "tiny",
        "size": "demo",
        "title": "A tiny study",
        "question": "Does it work?",
        "tasks": (Task(workload="digits_mlp", num_steps=4, eval_every=2),),
        "arms": (
            Arm(name="adamw", title="AdamW", optimizer="adamw"),
            Arm(name="dcao:adamw", title="DCAO(AdamW)", optimizer="dcao:adamw", reference="adamw"),
        ),
        "seeds": (0, 1),
        "tuning": Tuning(num_trials=3),
        "watching": Watching(spectra=2),
    }
    return StudyConfig(**{**settings, **changes})


def tinier_study(**changes):
    """4 trials and 2 final runs."""
    return tiny_study(**{"seeds": (0,), "tuning": Tuning(num_trials=2), "watching": None, **changes})


class HereExecutor(Executor):
    """Does runs one after the other in this process, and counts them."""

    jobs = num_slots = 1

    def __init__(self, fail=lambda config: None):
        self.done = []
        self._fail = fail

    def open_slots(self, store):
        self._store = store
        return contextlib.nullcontext(self)

    def start(self, slot, config):
        self._config = config

    def wait(self, seconds):
        error = self._fail(self._config)
        if error is None:
            self.done.append(self._config)
        return [(0, run(self._config, self._store) if error is None else error)]

    def stop(self):
        pass


def silent():
    return Console(quiet=True)


def ended(accuracy, loss=1.0):
    """What tuning reads of a result; None diverged."""
    outcome = Outcome.DIVERGED if accuracy is None else Outcome.FINISHED
    return SimpleNamespace(outcome=outcome, final={"validation_accuracy": accuracy, "validation_loss": loss})
