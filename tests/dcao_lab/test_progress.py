import io

from rich.console import Console

from dcao_lab.progress import BarProgress, LineProgress, expected_cost, show_progress
from lab_runs import small_config


def test_without_a_terminal_each_run_is_a_plain_line_with_the_time_left():
    console = Console(file=io.StringIO(), width=60)
    configs = [small_config(seed=seed) for seed in range(2)]
    with show_progress(console, configs) as progress:
        assert isinstance(progress, LineProgress)
        for config in configs:
            progress.done(config, "accuracy 0.5 [b]")
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("[1/2] digits_mlp adamw lr=0.001 seed=0: accuracy 0.5 [b]; about ")
    assert lines[1].endswith("about 0 s left")
    assert "\x1b" not in console.file.getvalue()


def test_in_a_terminal_it_is_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with show_progress(console, [small_config()]) as progress:
        assert isinstance(progress, BarProgress)
        progress.done(small_config(), "accuracy 0.5")
    assert "1 of 1 runs" in console.file.getvalue()


def test_probing_and_longer_runs_are_expected_to_take_longer():
    plain = expected_cost(small_config())
    assert expected_cost(small_config(optimizer="dcao:adamw")) > plain
    assert expected_cost(small_config(num_steps=12)) == 2 * plain
