"""From runs to a page: every number is computed here or below, kept in ``data.json``, and shown by the page."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from dcao_lab import jsontext
from dcao_lab.errors import LabError
from dcao_lab.report import figures, formats, tables, words
from dcao_lab.report.summary import WorkloadSummary, compare, summarise
from dcao_lab.runner import StoredRun

HERE = Path(__file__).parent
PAGE = "index.html"
DATA = "data.json"

Context = dict[str, Any]


def write_report(runs: list[StoredRun], out: Path) -> tuple[Path, list[str]]:
    """Write the page and its data into ``out``; the page's path, and the sentences it opens with."""
    if not runs:
        raise LabError("there are no finished runs to report on; run some first")
    out.mkdir(parents=True, exist_ok=True)
    context = build_context(runs)
    (out / DATA).write_text(jsontext.dumps(context, indent=1) + "\n", encoding="utf-8")
    (out / PAGE).write_text(render(context), encoding="utf-8")
    return out / PAGE, context["headlines"]


def render(context: Context) -> str:
    """The page as one HTML text with everything it needs inside."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figures_by_id"] = figures_by_id
    parts = {name: (HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return environment.get_template("template.html").render(page=context, plotly=get_plotlyjs(), **parts)


def figures_by_id(context: Context) -> Context:
    """The figures of the page, by the id of the element that shows them."""
    sections = [context["overview"], *(section for w in context["workloads"] for section in w["sections"])]
    return {panel["id"]: panel["figure"] for section in sections for panel in section["figures"]}


def build_context(runs: list[StoredRun]) -> Context:
    """Everything the page shows, as JSON has it."""
    summaries = summarise(runs)
    context = {
        "title": "DCAO on embedded data",
        "lead": _lead(runs, summaries),
        "headlines": words.headlines(summaries),
        "optimizers": _optimizer_legend(summaries),
        "overview": _overview(summaries),
        "workloads": [_workload(summary) for summary in summaries],
        "cost": tables.costs(summaries),
        "runs": tables.all_runs(runs, summaries),
        "provenance": tables.origins(runs),
        "numbers": {summary.info.name: _numbers(summary) for summary in summaries},
    }
    return json.loads(json.dumps(context, cls=PlotlyJSONEncoder))  # plotly's arrays and tuples become lists


def _lead(runs: list[StoredRun], summaries: list[WorkloadSummary]) -> str:
    titles = formats.listed([summary.info.title for summary in summaries])
    rates = sorted({lr for summary in summaries for lr in summary.learning_rates})
    spelled = formats.listed([formats.learning_rate(lr) for lr in rates])
    return f"{formats.count(len(runs))} training runs of {titles}, from initial learning rates {spelled}."


def _optimizer_legend(summaries: list[WorkloadSummary]) -> list[Context]:
    baselines = {baseline.name: baseline for summary in summaries for baseline in summary.baselines}
    return [
        {"title": b.title, "color": figures.family_color(b), "dashed": not b.is_wrapped} for b in baselines.values()
    ]


def _overview(summaries: list[WorkloadSummary]) -> Context:
    panels = [
        _figure(s.info.name, "final", f"{s.info.title}: {formats.metric_title(s.info)}", figures.final_metric(s))
        for s in summaries
    ]
    caption = "Large: the median over seeds. Small: each seed. A run that diverged has no point."
    return _section("final", "Where each initial learning rate ends", "optimizers", caption, panels)


def _workload(summary: WorkloadSummary) -> Context:
    return {
        "name": summary.info.name,
        "title": summary.info.title,
        "summary": f"{summary.info.summary}; {formats.count(summary.num_steps)} steps a run",
        "sentences": words.workload_sentences(summary),
        "metric": formats.metric_title(summary.info),
        "table": tables.results(summary),
        "learning_rates": [
            {
                "title": f"from {formats.learning_rate(lr)}",
                "color": figures.learning_rate_color(summary, lr),
                "dashed": False,
            }
            for lr in summary.learning_rates
        ],
        "sections": _sections(summary),
    }


def _sections(summary: WorkloadSummary) -> list[Context]:
    wrapped = [baseline for baseline in summary.baselines if baseline.is_wrapped]
    rates = [(lr, f"from {formats.learning_rate(lr)}") for lr in summary.learning_rates]
    name = summary.info.name
    sections = [
        _section(
            "loss",
            "Training loss",
            "optimizers",
            "Thick: the median over seeds. Thin: each seed. Mean of the mini-batch losses since the last point.",
            [_figure(name, f"loss-{lr:g}", title, figures.losses(summary, lr)) for lr, title in rates],
        ),
        _section(
            "s",
            "The stability number against the edge",
            "optimizers",
            _stability_caption(summary),
            [_figure(name, f"s-{lr:g}", title, figures.stability(summary, lr)) for lr, title in rates],
        ),
        _section(
            "lr",
            "What DCAO did to the learning rate",
            "learning_rates",
            "One run from each initial learning rate.",
            [_figure(name, f"lr-{b.name}", b.title, figures.learning_rates(summary, b)) for b in wrapped],
        ),
        _section(
            "hyper",
            "Momentum and weight decay",
            "optimizers",
            "One run from each initial learning rate. " + _held_fixed(summary),
            [
                _figure(name, key, figures.HYPERPARAMETERS[key], figures.hyperparameter(summary, key))
                for key in ("momentum", "weight_decay")
            ],
        ),
        _section(
            "ritz",
            "Ritz values over time",
            "learning_rates",
            "Thick: the largest. Thin: the ones after it. One run from each initial learning rate.",
            [_figure(name, f"ritz-{b.name}", b.title, figures.ritz_values(summary, b)) for b in summary.baselines],
        ),
    ]
    return [section for section in sections if section["figures"]]


def _section(key: str, heading: str, legend: str, caption: str, panels: list[Context]) -> Context:
    drawn = [
        panel
        for panel in panels
        if any(trace.get("x") is not None and len(trace["x"]) for trace in panel["figure"]["data"])
    ]
    return {"key": key, "heading": heading, "legend": legend, "caption": caption, "figures": drawn}


def _figure(workload: str, key: str, title: str, figure: figures.Figure) -> Context:
    return {"id": f"{workload}-{key}".replace(":", "-").replace(".", "-"), "title": title, "figure": figure}


def _stability_caption(summary: WorkloadSummary) -> str:
    probed = [run for arm in summary.arms.values() for run in arm.runs[:1] if run.probes]
    total = sum(len(run.probes) for run in probed)
    kept = sum(figures.has_positive_s(record) for run in probed for record in run.probes)
    return (
        "Above 2 the steps are too long to be stable. Dots: probes. Lines: their running median. "
        f"{formats.count(total - kept)} of {formats.count(total)} probes have no s above zero and are not drawn."
    )


def _held_fixed(summary: WorkloadSummary) -> str:
    """Which hyperparameters stayed what they were in every run shown."""
    runs = [
        run
        for arm in summary.arms.values()
        for run in arm.runs
        if run.probes and run.config.optimizer.startswith("dcao")
    ]
    still = [
        label
        for key, label in figures.HYPERPARAMETERS.items()
        if all(getattr(record.before, key) == getattr(record.after, key) for run in runs for record in run.probes)
    ]
    return f"Unchanged throughout: {formats.listed(still)}." if still else ""


def _numbers(summary: WorkloadSummary) -> Context:
    """The numbers behind the words, unrounded."""
    return {
        "medians": {f"{name} {lr:g}": arm.median for (name, lr), arm in summary.arms.items()},
        "values": {f"{name} {lr:g}": list(arm.values) for (name, lr), arm in summary.arms.items()},
        "costs": {name: asdict(cost) for name, cost in summary.costs.items()},
        "comparisons": [
            {
                "bare": c.bare.name,
                "wrapped": c.wrapped.name,
                "bare_range": asdict(c.bare_range),
                "wrapped_range": asdict(c.wrapped_range),
                "worst_is_better": c.worst_is_better,
                "best_is_as_good": c.best_is_as_good,
                "worst_beats_best": c.worst_beats_best,
            }
            for c in compare(summary)
        ],
    }
