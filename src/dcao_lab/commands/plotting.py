"""The picture of a run as a file."""

from collections.abc import Sequence
from pathlib import Path

import dcao
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.runs.store import CONFIG, TELEMETRY

SUFFIXES = (".png", ".svg", ".pdf")
PIXELS_PER_INCH = 150


def write_picture(run: Path, *, out: Path | None, panels: Sequence[str] | None) -> Path:
    """Draw a run's folder or log into a file, by default one here that has the run's name; returns its path.

    Raises:
        LabError: The path has no records, there is nothing to show, or the file's ending is none of a picture's.
    """
    target = Path(f"{_name(run)}.png") if out is None else out
    require_picture(target)
    try:
        figure = dcao.plot(run, panels=panels or None, policy=_policy(run))
    except (ValueError, FileNotFoundError) as error:
        raise LabError(str(error)) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=PIXELS_PER_INCH)
    return target


def require_picture(target: Path) -> None:
    """Refuse a file whose ending is none of a picture's."""
    if target.suffix.lower() not in SUFFIXES:
        raise LabError(f"a picture must end with one of {', '.join(SUFFIXES)}, got {target}; for example --out run.png")


def _name(run: Path) -> str:
    place = run.resolve()
    return place.stem if place.is_file() and place.name != TELEMETRY else _folder(run).name


def _folder(run: Path) -> Path:
    place = run.resolve()
    return place.parent if place.is_file() else place


def _policy(run: Path) -> dcao.policies.Ceiling | None:
    """The rule of a run that has its own limit on the relative step; None where the default's holds."""
    config = _folder(run) / CONFIG
    settings = dict(jsontext.read(config)).get("settings", {}) if config.is_file() else {}
    limit = settings.get("max_relative_step")
    return None if limit is None else dcao.policies.Ceiling(max_relative_step=limit)
