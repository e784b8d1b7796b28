"""A CNN that knows the digits 0 to 4, to be trained on 5 to 9, and how well it then still knows the old ones."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Splits, with_replacement
from dcao_lab.workloads.pretraining import SEED, Weights, pretrained, train_once
from dcao_lab.workloads.unseen.splits import digits

NUM_CLASSES = 5
NUM_PRETRAINING_STEPS = 300
BATCH_SIZE = 32


def new_network() -> nn.Sequential:
    """Two convolutions with ReLU and pooling, and a linear classifier of five digits."""
    first, second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
    features = [nn.Unflatten(1, (1, 8, 8)), first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(128, NUM_CLASSES))


def with_new_head() -> nn.Sequential:
    """The pretrained network with a new last layer."""
    model = new_network()
    model.load_state_dict(_weights())
    model[-1] = nn.Linear(128, NUM_CLASSES)
    return model


def old_domain_loss(model: nn.Module) -> dict[str, float]:
    """``old_domain_loss``: cross-entropy of the old last layer, on held-out old digits and the features of now."""
    assert isinstance(model, nn.Sequential)
    device = next(model.parameters()).device
    images, labels = (part.to(device) for part in old_digits()["test"])
    *_, weight, bias = (part.to(device) for part in _weights().values())
    return {"old_domain_loss": F.cross_entropy(F.linear(model[:-1](images), weight, bias), labels).item()}


@cache
def old_digits() -> Splits:
    """The digits 0 to 4."""
    return {name: _between(batch, 0) for name, batch in digits().items()}


@cache
def new_digits() -> Splits:
    """The digits 5 to 9, whose labels are 0 to 4 here."""
    return {name: _between(batch, NUM_CLASSES) for name, batch in digits().items()}


def _between(batch: Batch, first: int) -> Batch:
    images, labels = batch
    chosen = (labels >= first) & (labels < first + NUM_CLASSES)
    return images[chosen], labels[chosen] - first


@cache
def _weights() -> Weights:
    images, labels = old_digits()["train"]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def learn() -> nn.Module:
        batches = with_replacement(images, labels, BATCH_SIZE, torch.Generator().manual_seed(SEED + 1))
        return train_once(new_network(), batches, loss, NUM_PRETRAINING_STEPS)

    return pretrained("digits_0_to_4", images, learn)
