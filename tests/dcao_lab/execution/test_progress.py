import io

from rich.console import Console

from dcao_lab.execution import progress as progress_module
from dcao_lab.execution.progress import BarProgress, LineProgress, Tally, show_progress
from helpers.lab_runs import small_config

RUNS = [small_config(seed=seed) for seed in range(2)]


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=40)


def test_without_a_terminal_each_run_is_a_plain_line_with_the_time_left():
    console = Console(file=io.StringIO(), width=60)
    with show_progress(console, RUNS, jobs=1) as progress:
        assert isinstance(progress, LineProgress)
        for config in RUNS:
            progress.started(0, config)
            progress.done(config, "accuracy 0.5 [b]")
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("[1/2] digits_mlp adamw lr=0.001 seed=0: accuracy 0.5 [b]; about ")
    assert lines[1].endswith("about 0 s left")
    assert "\x1b" not in console.file.getvalue()


def test_a_run_that_was_there_already_counts_without_a_line():
    console = Console(file=io.StringIO(), width=60)
    with show_progress(console, RUNS, jobs=1) as progress:
        progress.done(RUNS[0], "accuracy 0.5")
        progress.started(0, RUNS[1])
        progress.done(RUNS[1], "accuracy 0.5")
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("[2/2] digits_mlp adamw lr=0.001 seed=1")


def test_in_a_terminal_there_is_a_bar_for_all_and_one_for_each_worker():
    console = terminal()
    with show_progress(console, RUNS, jobs=2) as progress:
        assert isinstance(progress, BarProgress)
        progress.started(0, RUNS[0])
        progress.started(1, RUNS[1])
        progress.started(99, small_config(seed=3))  # a cluster's many slots have no bars
        progress._bars.refresh()
        progress.done(RUNS[0], "accuracy 0.5 [b]")
        progress._bars.refresh()
    text = console.file.getvalue()
    for words in (
        "0 of 2 runs",
        "1 of 2 runs",
        "worker 1: digits_mlp adamw lr=0.001 seed=0",
        "worker 2: digits_mlp adamw lr=0.001 seed=1",
        "1 done",
        "accuracy 0.5 [b]",
    ):
        assert words in text


def test_the_time_left_rests_on_the_runs_that_took_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    tally = Tally(small_config(seed=seed) for seed in range(4))
    tally.done(small_config(seed=0), was_started=False)
    assert tally.left() == "not known yet"
    now[0] = 300.0
    tally.done(small_config(seed=1), was_started=True)
    assert tally.left() == "about 10 min"  # two runs of five minutes
    now[0] = 570.0
    assert tally.left() == "about 6 min"  # it goes on between events: 10 min less 270 s, 330 s
    now[0] = 9e9
    assert tally.left() == "about 0 s"


def test_a_run_of_an_unknown_workload_is_left_to_fail_by_itself():
    console = terminal()
    with show_progress(console, [small_config(workload="no such thing")], jobs=1):
        pass
    assert "0 of 1 runs" in console.file.getvalue()
