import pytest
import torch

from dcao_lab import peak_memory
from dcao_lab.peak_memory import PeakMemory

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def peak_or_skip(memory):
    peak = memory.bytes()
    if peak is None:
        pytest.skip("this system does not reset the peak")
    return peak


def test_the_peak_rises_with_what_is_held_and_is_reset_with_the_next_run():
    before = peak_or_skip(PeakMemory(CPU))
    memory = PeakMemory(CPU)
    held = torch.ones(200 * MEBIBYTE // 4)  # large enough that the allocator gives it back at once
    high = memory.bytes()
    del held
    after = PeakMemory(CPU).bytes()
    assert high - before > 150 * MEBIBYTE  # the rest: pages given back in the meantime
    assert high - after > 150 * MEBIBYTE


def test_where_the_peak_cannot_be_reset_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(peak_memory, "_CLEAR_REFS", tmp_path)  # a folder cannot be written
    assert PeakMemory(CPU).bytes() is None
