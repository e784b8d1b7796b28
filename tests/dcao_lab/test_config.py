import dataclasses
import json
import re

import pytest

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from helpers.lab_runs import small_config

CHANGES = {
    "workload": "digits_cnn",
    "optimizer": "sgd",
    "lr": 2e-3,
    "seed": 1,
    "num_steps": 7,
    "eval_every": 2,
    "watch": True,
    "spectrum_every": 5,
    "settings": {"weight_decay": 0.1},
    "schedule": "cosine",
    "budget": 7.5,
    "batch_size": 32,
    "init_scale": 2.0,
    "label_noise": 0.1,
    "measure_solution": True,
}


def test_the_fingerprint_is_the_same_in_every_process_and_version():
    # Written down once: a change here means that every stored run is done again. Raise FORMAT when that is meant.
    assert small_config().fingerprint() == "c2f882282febb13a"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RunConfig)])
def test_every_field_changes_the_fingerprint(field):
    assert small_config(**{field: CHANGES[field]}).fingerprint() != small_config().fingerprint()


def test_a_config_survives_json():
    config = small_config(watch=True, spectrum_every=3, settings={"momentum": 0.9, "beta2": 0.99})
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("change", [{"format": 99}, {"a_later_field": 1}], ids=["format", "field"])
def test_a_config_of_another_version_is_refused(change):
    with pytest.raises(LabError, match=r"this config is of format .* reads format 4; run it again"):
        RunConfig.from_dict({**small_config().to_dict(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive and finite, got nan"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"num_steps": 0}, "num_steps must be 1 or more, got 0"),
        ({"eval_every": 0}, "eval_every must be 1 or more, got 0"),
        ({"spectrum_every": -2}, "spectrum_every must be 1 or more, got -2"),
    ],
    ids=str,
)
def test_values_that_make_no_run_are_refused(change, message):
    with pytest.raises(LabError, match=re.escape(message)):
        small_config(**change)
