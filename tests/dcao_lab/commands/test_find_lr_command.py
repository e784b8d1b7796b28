"""The command that finds a learning rate, and what it writes."""

import json

import pytest
from typer.testing import CliRunner

from dcao_lab.commands.cli import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_find_lr_prints_the_number_and_writes_the_curve(optimizer, tmp_path):
    result = invoke("find-lr", "digits_mlp", "--optimizer", optimizer, "--out", tmp_path / "found")
    assert result.exit_code == 0, result.output
    kept = json.loads((tmp_path / "found" / "find-lr.json").read_text())
    printed = float(result.output.split()[1].rstrip(","))
    assert printed == pytest.approx(kept["lr"], rel=1e-3)  # printed with four digits
    assert kept["reason"] in result.output
    assert f"{kept['cost']:.0f} gradient evaluations, in {len(kept['curve'])} steps" in result.output
    assert set(kept["curve"][0]) == {"lr", "loss", "s", "relative_step", "agreement"}
    page = (tmp_path / "found" / "find-lr.html").read_text()
    assert "learning rate" in page
    assert "http" not in page.split("<script")[0]


@pytest.mark.filterwarnings("ignore:find_lr found no lr")
def test_find_lr_says_so_if_nothing_is_found():
    result = invoke("find-lr", "digits_mlp", "--steps", "5")
    assert result.exit_code == 0
    assert "no lr was found" in result.output
    assert "Fix: give more num_steps" in result.output


@pytest.mark.parametrize("optimizer", ["dcao:adamw", "muon"])
def test_find_lr_refuses_what_it_cannot_measure(optimizer):
    result = invoke("find-lr", "digits_mlp", "--optimizer", optimizer)
    assert result.exit_code == 2
    assert f"find-lr needs a bare optimizer that DCAO knows, got {optimizer}" in result.output
