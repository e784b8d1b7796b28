"""The page that explains the algorithm trains as the library does: the same learning rates, the same weights."""

import importlib.util
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dcao import DCAO, MemoryRecorder

PAGE = Path(__file__).parents[2] / "examples" / "one_page.py"
NUM_STEPS = 400
BASES = {
    "SGD": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "AdamW": lambda params, lr: torch.optim.AdamW(params, lr=lr),
}


@pytest.fixture(scope="module")
def one_page():
    spec = importlib.util.spec_from_file_location("one_page", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The two do the same in another order, with roundings of u = 1.1e-16: about ten a step on the way to lr, 400 steps.
SAME_ARITHMETIC = 400 * 10 * 1.1e-16
# Where s holds lr, roundings of the gradients count too: a difference quotient over sqrt(u) makes sqrt(u) of them, once
# in each of the 29 probes.
THROUGH_S = 29 * 1.1e-8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training problem in float64.

    Attributes:
        late: Whether the rise goes on where probes are 20 steps apart, further than lr may rise without one.
        held_by_s: Whether s and not l is what limits lr at some probe.
        halved: Whether the probe that ends the rise allows less than half the lr, which is all that it cuts.
        agrees: Whether the label follows from one input, so that batches agree more.
        noise: Whether gradients are found to be noise not at all, in part or throughout.
    """

    name: str
    base: str
    held_by_s: bool
    tolerance: float
    late: bool = False
    halved: bool = False
    agrees: bool = False
    noise: str = "not at all"
    batch_size: int = 64
    activation: type[nn.Module] = nn.Tanh
    num_layers: int = 1
    input_scale: float = 1.0
    weight_scale: float = 1.0

    def problem(self):
        """The model, its loss, and batches."""
        torch.manual_seed(0)
        x = self.input_scale * torch.randn(2048, 20, dtype=torch.float64)
        y = (x[:, 0] > 0 if self.agrees else x[:, 0] * x[:, 1] > 0).long()
        pairs = pairwise([20] + [32] * self.num_layers)
        hidden = [part for sizes in pairs for part in (nn.Linear(*sizes), self.activation())]
        model = nn.Sequential(*hidden, nn.Linear(32, 2)).double()
        vector_to_parameters(self.weight_scale * parameters_to_vector(model.parameters()), model.parameters())
        return (
            model,
            lambda rows: F.cross_entropy(model(x[rows]), y[rows]),
            torch.randint(0, 2048, (NUM_STEPS, self.batch_size)),
        )


CASES = [
    Case(name="sgd", base="SGD", held_by_s=False, noise="in part", tolerance=SAME_ARITHMETIC),
    Case(name="adamw", base="AdamW", held_by_s=False, noise="in part", tolerance=SAME_ARITHMETIC),
    Case(
        name="small batches",
        base="AdamW",
        batch_size=2,
        held_by_s=False,
        noise="throughout",
        tolerance=SAME_ARITHMETIC,
    ),
    Case(name="deep, adamw", base="AdamW", num_layers=4, held_by_s=True, tolerance=THROUGH_S),
    Case(name="batches that agree", base="AdamW", num_layers=6, agrees=True, held_by_s=True, tolerance=THROUGH_S),
    Case(
        name="deep with large weights, sgd",
        base="SGD",
        activation=nn.ReLU,
        num_layers=6,
        input_scale=0.3,
        weight_scale=3.3,
        late=True,
        halved=True,
        held_by_s=True,
        tolerance=THROUGH_S,
    ),
]


def by_page(one_page, case, lr=10.0):
    """Learning rates and final weights of the page."""
    model, loss_of, batches = case.problem()
    run = one_page.train(model, loss_of, batches, lr=lr, num_steps=NUM_STEPS, adam=case.base == "AdamW")
    lrs = [lr for _, lr in run]
    return torch.tensor(lrs, dtype=torch.float64), parameters_to_vector(model.parameters()).detach()


def by_library(case):
    """Learning rates and final weights of the library, the length of the way to them, and its log."""
    model, loss_of, batches = case.problem()
    recorder, lrs, way, before = MemoryRecorder(), [], 0.0, parameters_to_vector(model.parameters()).detach()
    optimizer = DCAO(BASES[case.base](model.parameters(), 10.0), total_steps=NUM_STEPS, recorder=recorder)
    for rows in batches:
        optimizer.minimize(lambda rows=rows: loss_of(rows))
        lrs.append(optimizer.param_groups[0]["lr"])
        weights = parameters_to_vector(model.parameters()).detach()
        way, before = way + (weights - before).norm(), weights
    return torch.tensor(lrs, dtype=torch.float64), weights, way, recorder.records


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_page_and_the_library_train_alike(one_page, case):
    lrs, weights = by_page(one_page, case)
    library_lrs, library_weights, way, records = by_library(case)
    assert len(lrs) == NUM_STEPS
    assert ((lrs - library_lrs) / library_lrs).abs().max() < case.tolerance
    # A relative error of each lr is one of each step, and steps that all err alike err by that part of the whole way.
    assert (weights - library_weights).norm() < case.tolerance * max(way, library_weights.norm())
    # The case is what it says, so that all parts of the rule are compared.
    [arrival] = [record for record in records if record.decision.reason.startswith("arrived")]
    assert (arrival.step > 60 + 10) == case.late
    assert (abs(arrival.after.lr / arrival.before.lr - 0.5) < 1e-9) == case.halved
    seen = [record.observation for record in records]
    assert any(each.s / 8.0 > each.relative_step / 0.1 for each in seen) == case.held_by_s
    agreements = [each.agreement for each in seen if 0.05 * NUM_STEPS <= each.step < 0.2 * NUM_STEPS]
    agreement = median(agreements)
    assert case.noise == ("not at all" if agreement >= 0.25 else "in part" if agreement > 0.15 else "throughout")
    assert not any("guard" in record.decision.reason for record in records)  # which the page does not have


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_lr_that_is_given_to_the_page_does_not_matter(one_page, case):
    lrs, weights = by_page(one_page, case, lr=10.0)
    others, other_weights = by_page(one_page, case, lr=1e-7)
    assert torch.equal(lrs, others)
    assert torch.equal(weights, other_weights)


def test_it_is_one_page():
    lines = PAGE.read_text().splitlines()
    assert len(lines) < 110
    assert not any("dcao" in line for line in lines if "import" in line)
