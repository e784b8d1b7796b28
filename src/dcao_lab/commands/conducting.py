"""The work of the commands about whole studies, which imports torch and the rest of the lab."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dcao_lab.commands.terminal import open_console
from dcao_lab.errors import LabError, look_up
from dcao_lab.execution.executors import Executor, LocalExecutor
from dcao_lab.runs.runner import RunPlace
from dcao_lab.study import export
from dcao_lab.study.conduct import EVERYTHING, Selection, conduct, failures, load_study
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.estimate import expected_hours, planned_runs
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.recipes import get_recipe
from dcao_lab.study.recipes.demo import demo
from dcao_lab.study.resizing import resized
from dcao_lab.study.result import StudyResult

PAPER = "paper"  # folder beside the page


def do_study(
    name: str,
    size: str,
    out: Path,
    *,
    jobs: int,
    executor: str,
    address: str | None,
    gpus_per_run: float,
    place: RunPlace,
    workloads: list[str] | None,
    arms: list[str] | None,
    steps: int | None,
    seeds: int | None,
    dry_run: bool,
    report: bool,
) -> None:
    """Do what is left of a study, or say how much that is."""
    config = resized(get_recipe(name)(size), num_steps=steps, num_seeds=seeds)
    selection = _selection(config, workloads, arms)
    console = open_console()
    if dry_run:
        _show_amount(config, selection, jobs, console)
        return
    workers = _executor(executor, jobs, place, address, gpus_per_run)
    folder = StudyFolder.of(config, out)
    result = conduct(config, folder, workers, console, selection)
    _finish(result, folder.report if report else None, console)


def do_demo(out: Path, *, jobs: int, workloads: list[str] | None, steps: int | None, seeds: int | None) -> None:
    """Do the demo, with its page in ``out``."""
    config = resized(demo(), num_steps=steps, num_seeds=seeds)
    selection = _selection(config, workloads, None)
    console = open_console()
    result = conduct(config, StudyFolder.of(config, out), LocalExecutor(jobs), console, selection=selection)
    _write_report(result, out, console)
    _complain_of_failures(result)


def write_report(folder: Path, out: Path | None) -> None:
    """Write page and paper of what there is of a study into ``out``; None: its folder ``report``."""
    place, console = out or StudyFolder(folder).report, open_console()
    result = _read(folder)
    _write_report(result, place, console)
    _write_paper(result, place, console)


def cells_of(folder: Path) -> list[str]:
    """The verdict on the cells of a study, and their tables, as Markdown."""
    return _cells(_read(folder))


def export_trials(folder: Path, out: Path) -> None:
    """Copy the trials of a study into a new SQLite file."""
    result = load_study(StudyFolder(folder))
    out.touch(exist_ok=False)
    number = export.export_trials(result, f"sqlite:///{out}")
    open_console().print(f"{number} trials are in {out}", highlight=False, markup=False, soft_wrap=True)


def _read(folder: Path) -> StudyResult:
    """A study from its runs in the store, or from a folder that has its config and the tables of its report alone."""
    from dcao_lab.report.parquet import RUNS, read_tables  # the report's statistics take a second to import

    place = StudyFolder(folder)
    return read_tables(place.study(), folder) if (folder / RUNS).exists() else load_study(place)


def _cells(result: StudyResult) -> list[str]:
    from dcao_lab.report.markdown import to_markdown
    from dcao_lab.report.numbers import analyse
    from dcao_lab.report.tables.cells import tables
    from dcao_lab.report.words.cells import verdict

    numbers = analyse(result)
    if not numbers.cells:
        raise LabError("this study has no cells: it has no sweep, or no arm that nobody tuned beside one")
    return [verdict(numbers) + "\n", *(to_markdown(table) for table in tables(numbers) if table.rows)]


def _executor(name: str, jobs: int, place: RunPlace, address: str | None, gpus_per_run: float) -> Executor:
    def local() -> Executor:
        if address is not None or gpus_per_run:
            raise LabError("--address and --gpus-per-run are for --executor ray; add it, or leave them out")
        return LocalExecutor(jobs, place)

    def ray() -> Executor:
        if gpus_per_run and not place.device.startswith("cuda"):
            raise LabError(f"--gpus-per-run reserves GPUs for runs on {place.device}; add --device cuda")
        from dcao_lab.execution.ray_executor import RayExecutor  # Ray is an extra of its own

        return RayExecutor(address, place, gpus_per_run)

    return look_up({"local": local, "ray": ray}, name, "executor")()


def _selection(config: StudyConfig, workloads: list[str] | None, arms: list[str] | None) -> Selection:
    if not workloads and not arms:
        return EVERYTHING
    for name in workloads or ():
        look_up({task.workload: task for task in config.tasks}, name, "workload of this study")
    for name in arms or ():
        look_up({arm.name: arm for arm in config.arms}, name, "arm of this study")
    return Selection(workloads=tuple(workloads or ()), arms=tuple(arms or ()))


def _show_amount(config: StudyConfig, selection: Selection, jobs: int, console: Console) -> None:
    runs = selection.of(planned_runs(config))
    table = Table("workload", "steps", "trials", "final", "watched", "hours", box=None, pad_edge=False)
    for task in config.tasks:
        own = [run for run in runs if run.task == task]
        counts = [str(sum(run.phase == phase for run in own)) for phase in ("trial", "final", "watched")]
        table.add_row(task.workload, str(task.num_steps), *counts, f"{expected_hours(own, jobs):.2g}")
    console.print(f"{config.title}: {config.question}", highlight=False, soft_wrap=True)
    console.print(table)
    num_arms = len({run.arm for run in runs})
    console.print(
        f"{len(runs)} runs of {num_arms} arms; about {expected_hours(runs, jobs):.2g} hours with {jobs} jobs "
        "of one core as fast as the authors', if none is there yet",
        highlight=False,
        soft_wrap=True,
    )


def _finish(result: StudyResult, report_folder: Path | None, console: Console) -> None:
    if report_folder is not None:
        _write_report(result, report_folder, console)
        _write_paper(result, report_folder, console)
    _complain_of_failures(result)


def _complain_of_failures(result: StudyResult) -> None:
    failed = failures(result)
    if failed:
        raise LabError(f"{len(failed)} of {len(failed) + len(result.runs)} runs failed; start again to retry")


def _write_report(result: StudyResult, out: Path, console: Console) -> None:
    from dcao_lab.report.html import write_study_report  # plotly takes a second to import

    page, verdict = write_study_report(result, out)
    # A terminal breaks it between words, a file keeps one line.
    console.print(verdict, highlight=False, markup=False, soft_wrap=not console.is_terminal)
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)


def _write_paper(result: StudyResult, out: Path, console: Console) -> None:
    from dcao_lab.report.paper import write_paper  # and so does matplotlib

    written = write_paper(result, out / PAPER)
    console.print(f"For a paper: {len(written)} files in {out / PAPER}", highlight=False, markup=False, soft_wrap=True)
