"""The trace of a step, on calls that can be counted by hand."""

import importlib.util
import sys

import step_trace


def load(path, monkeypatch):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


FAR = "def far(): pass\ndef far_and_back(function): return function()\n"
NEAR = """
import trace_far
def near(): pass
def step():
    near()                                        # the same file: no move
    trace_far.far()                               # to far: 1
    trace_far.far()                               # still there: the return to step is no call
    near()                                        # back: 2
    trace_far.far_and_back(lambda: near())        # to far: 3, and back: 4; step, far_and_back, lambda, near are 4 deep
    sum(sorted([1, 2], key=abs))                  # other packages do not count
    return [each for each in (1, 2)], sum(each for each in (1, 2))   # nor do these bodies
"""


def test_files_functions_moves_and_depth_are_those_counted_by_hand(tmp_path, monkeypatch):
    for name, source in (("trace_far", FAR), ("trace_near", NEAR)):
        (tmp_path / f"{name}.py").write_text(source)
    load(tmp_path / "trace_far.py", monkeypatch)
    near = load(tmp_path / "trace_near.py", monkeypatch)
    with step_trace.Trace(tmp_path) as trace:
        near.step()
    assert (trace.num_files, trace.num_functions, trace.num_moves, trace.deepest) == (2, 5, 4, 4)
    assert sys.getprofile() is None


def test_a_step_with_a_probe_runs_further_than_one_without():
    traces = step_trace.trace_dcao()
    assert traces[True].num_moves > traces[False].num_moves > 0
