import subprocess
import sys

import pytest
import torch

from dcao_lab.runs import peak_memory
from dcao_lab.runs.peak_memory import PeakMemory

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def test_the_peak_rises_with_what_is_held_and_is_reset_with_the_next_run():
    # In a process of its own: what a test session has freed before would be filled again, and nothing would rise.
    script = """
import torch
from dcao_lab.runs.peak_memory import PeakMemory
cpu = torch.device("cpu")
before = PeakMemory(cpu).bytes()
memory = PeakMemory(cpu)
held = torch.ones(200 * 2**20 // 4)  # large enough that the allocator gives it back at once
high = memory.bytes()
del held
print(before, high, PeakMemory(cpu).bytes())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    if "None" in done.stdout:
        pytest.skip("this system does not reset the peak")
    before, high, after = map(int, done.stdout.split())
    assert high - before > 150 * MEBIBYTE  # the rest: pages given back in the meantime
    assert high - after > 150 * MEBIBYTE


def test_where_the_peak_cannot_be_reset_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(peak_memory, "_CLEAR_REFS", tmp_path)  # a folder cannot be written
    assert PeakMemory(CPU).bytes() is None
