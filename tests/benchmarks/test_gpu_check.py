"""The check of a GPU runs without one: what needs CUDA is skipped with a word, and a check that breaks is one row."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpu_check
from device_checks import CHECKS, Outcome
from gpu_check import QUICK

SCRIPT = Path(gpu_check.__file__)
CPU = torch.device("cpu")


def rows(markdown: str) -> dict[str, tuple[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return {name: (status, found[0].strip() if found else "") for name, status, *found in lines[1:]}


def test_on_the_cpu_everything_passes_or_says_that_it_needs_cuda():
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--no-contracts"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(done.stdout)
    assert set(QUICK) <= found.keys()
    assert {name for name, (status, _) in found.items() if status == "skip"} == {
        "bit for bit as bare: capturable",
        "s in float32 with TF32",
        "cost: memory",
    }
    assert found["cost: memory"][1] == "needs CUDA"
    assert found["bit for bit as bare: fused"] == ("pass", "SGD, Adam, AdamW, Adagrad")
    assert "steps" in found["cost: a probe"][1]
    assert f"torch {torch.__version__}" in done.stdout.splitlines()[0]


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - set(QUICK) - {n for n in CHECKS if n.startswith("s ")}))
def test_a_check_that_is_not_among_the_quick_ones_passes_on_the_cpu(name):
    assert CHECKS[name](CPU).status == "pass"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_script_says_what_to_do():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "there is no CUDA device that torch sees; --device cpu" in done.stderr


def test_a_check_that_raises_is_a_row_and_the_others_go_on():
    def broken(device: torch.device) -> Outcome:
        raise RuntimeError("no kernel | image\nand more")

    found = list(gpu_check.results({"broken": broken, "fine": lambda device: Outcome("pass", "1")}, CPU))
    assert rows(gpu_check.table(CPU, found)) == {
        "broken": ("fail", "RuntimeError: no kernel / image"),
        "fine": ("pass", "1"),
        "**total**": ("1 pass, 1 fail, 0 skip", ""),
    }


def test_the_contract_tests_run_in_a_process_of_their_own_and_are_counted(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xdist" else find_spec(name))
    monkeypatch.setattr(gpu_check, "CONTRACTS", ("finding_leaves_no_trace",))
    outcome = gpu_check.contract_tests(CPU)
    assert outcome.status == "pass", outcome.found
    assert "passed" in outcome.found
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu_check.contract_tests(CPU) == Outcome("skip", "needs pytest and a clone")
