"""Which panels there are, in their order, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dcao.plotting import curves
from dcao.plotting.curves import Curve
from dcao.plotting.limits import Scale
from dcao.policies.base import Policy
from dcao.telemetry import StepRecord

DENSITY = "density"
"""The one panel that is not made of records."""


@dataclass(frozen=True, kw_only=True)
class PanelKind:
    """A panel that is made of records.

    Attributes:
        label: What its vertical axis is called.
        curves: Its curves, from the records and the policy that decided.
        scale: The scale of its axis; None: what suits the values.
        missing: How the records come to have what it shows.
    """

    label: str
    curves: Callable[[Sequence[StepRecord], Policy | None], list[Curve]]
    scale: Scale | None = None
    missing: str = "the default measure has it"


KINDS = {
    "loss": PanelKind(label="training loss", curves=lambda records, _: curves.losses(records)),
    "lr": PanelKind(label="learning rate", curves=lambda records, _: curves.lrs(records), scale="log"),
    "relative_step": PanelKind(label="relative step", curves=curves.relative_steps, scale="log"),
    "s": PanelKind(
        label="stability number s", curves=lambda records, _: curves.stability_numbers(records), scale="linear"
    ),
    "ritz_values": PanelKind(
        label="Ritz values\nof the Hessian",
        curves=lambda records, _: curves.ritz_values(records),
        missing='DCAO(..., spectrum_every=50) or measure="hessian" measures them',
    ),
    "preconditioned": PanelKind(
        label="sharpness,\npreconditioned",
        curves=lambda records, _: curves.preconditioned(records),
        missing='DCAO(..., spectrum_every=50) or measure="preconditioned" measures it',
    ),
}

NAMES = (*KINDS, DENSITY)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel with what it shows. One of densities has no curves."""

    name: str
    label: str
    curves: Sequence[Curve] = ()
    scale: Scale | None = None


def panels_of(
    records: Sequence[StepRecord], policy: Policy | None, *, names: Sequence[str] | None, has_densities: bool
) -> list[Panel]:
    """The panels that are asked for, or all that have something to show.

    Raises:
        ValueError: One that is asked for, or every one, has nothing to show.
    """
    found = {name: _panel(name, kind, records, policy) for name, kind in KINDS.items() if _is_wanted(name, names)}
    shown = {
        name: panel for name, panel in found.items() if any(c.has_values and c.ink == "main" for c in panel.curves)
    }
    if has_densities and _is_wanted(DENSITY, names):
        shown[DENSITY] = Panel(name=DENSITY, label="eigenvalue of\nthe Hessian")
    for name in names or ():
        if name not in shown:
            fix = "pass densities=" if name == DENSITY else KINDS[name].missing
            raise ValueError(
                f"panel {name!r} must have a finite value to show, and has none in {len(records)} records; {fix}"
            )
    if not shown:
        raise ValueError(f"there must be a finite value to show, and there is none in {len(records)} records; train on")
    return [shown[name] for name in (names or NAMES) if name in shown]


def _is_wanted(name: str, names: Sequence[str] | None) -> bool:
    return names is None or name in names


def _panel(name: str, kind: PanelKind, records: Sequence[StepRecord], policy: Policy | None) -> Panel:
    drawn = [curve for curve in kind.curves(records, policy) if curve.has_values]
    return Panel(name=name, label=kind.label, curves=drawn, scale=kind.scale)
