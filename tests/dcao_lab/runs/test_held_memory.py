"""What is counted as held, against what each optimizer is known to keep."""

from itertools import islice

import pytest
import torch

from dcao_lab.baselines import BASELINES, BuildRequest
from dcao_lab.runs.held_memory import held_copies
from dcao_lab.runs.training import training_steps
from dcao_lab.workloads import get_workload
from dcao_lab.workloads.base import StartRequest

# Copies of the parameters: SGD's momentum; Adam's two averages; Lion's one. DCAO adds its snapshot, of the parameters
# and of the base's state. The literal form adds k = 5 Ritz vectors and takes no snapshot. Prodigy has two averages, the
# first weights and s; AdaHessian, whose digits_mlp has no kernels to share an average, two and the last estimate.
KNOWN = {
    "sgd": 1,
    "adamw": 2,
    "lion": 1,
    "dcao:sgd": 1 + 2,
    "dcao:adamw": 2 + 3,
    "dcao-literal:adamw": 2 + 5,
    "prodigy": 4,
    "adahessian": 3,
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_an_optimizer_holds_between_steps(name):
    problem = get_workload("digits_mlp").start(StartRequest(seed=0))
    optimizer = BASELINES[name].build(problem, BuildRequest(lr=1e-3, num_steps=60))
    assert held_copies(optimizer, problem.model) == 0.0
    list(islice(training_steps(optimizer, problem.loss, problem.batches), 40))
    # Adam's step counters are 4 bytes a tensor: 6 of them, twice with the snapshot, of 26 122 parameters.
    assert held_copies(optimizer, problem.model) == pytest.approx(KNOWN[name], abs=12 / 26_122 + 1e-9)


def test_parameters_that_share_memory_and_what_hangs_together_in_circles_count_once():
    model = torch.nn.Linear(4, 4, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    buffer = torch.ones(32)
    optimizer.kept = {"whole": buffer, "half": [buffer[:16]], "me": optimizer, "weights": model.weight.view(-1)}
    assert held_copies(optimizer, model) == 2.0
