"""Where a study is kept: its config, what tuning chose, its report, and the runs that it shares with other studies."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.files.whole import write_whole
from dcao_lab.runs.store import RunStore
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.plan import Choices
from dcao_lab.study.result import Absence

STUDY = "study.json"
CHOICES = "choices.json"
ABSENCES = "missing.json"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study; the runs are beside it, in a store that all studies of the parent folder share.

    Attributes:
        root: The folder.
    """

    root: Path

    @classmethod
    def of(cls, study: StudyConfig, out: Path) -> "StudyFolder":
        """The folder of ``study`` below ``out``."""
        return cls(Path(out) / f"{study.name}-{study.size}")

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    def store(self) -> RunStore:
        """The runs."""
        return RunStore(self.root.parent / "runs")

    def keep(self, study: StudyConfig) -> None:
        """Write the study down, or see that it is the one that is here.

        Raises:
            LabError: Another one is here.
        """
        if (self.root / STUDY).exists():
            if self.study().fingerprint() != study.fingerprint():
                raise LabError(
                    f"{self.root} has the study {study.name} with another config (its recipe or an option changed); "
                    "give another --out, or delete that folder: runs that both have are not done again"
                )
            return
        self._write(STUDY, study.to_dict())

    def study(self) -> StudyConfig:
        """The study that is here.

        Raises:
            LabError: There is none, or it cannot be read, or it was written in another format.
        """
        study: StudyConfig | None = self._read(STUDY, StudyConfig.from_dict)
        if study is None:
            raise LabError(f"there is no study in {self.root}; give the folder that has {STUDY}")
        return study

    def keep_choices(self, choices: Choices) -> None:
        """Write down what tuning chose."""
        rows = [{"workload": pair[0], "arm": pair[1], "point": point} for pair, point in sorted(choices.items())]
        self._write(CHOICES, rows)

    def choices(self) -> Choices:
        """What tuning has chosen so far."""
        return self._read(CHOICES, lambda rows: {(row["workload"], row["arm"]): row["point"] for row in rows}) or {}

    def keep_absences(self, absences: Mapping[str, Absence]) -> None:
        """Write down why runs are not there, by their fingerprints."""
        self._write(ABSENCES, {fingerprint: asdict(absence) for fingerprint, absence in absences.items()})

    def absences(self) -> dict[str, Absence]:
        """Why runs are not there, by their fingerprints."""
        return self._read(ABSENCES, lambda found: {name: Absence(**data) for name, data in found.items()}) or {}

    def _read(self, name: str, parse: Callable[[Any], Any]) -> Any:
        """What ``parse`` makes of a file's contents; None where there is no file."""
        path = self.root / name
        if not path.exists():
            return None
        try:
            return parse(jsontext.read(path))
        except LabError:  # what parse says for itself
            raise
        except (ValueError, TypeError, AttributeError, KeyError):
            raise LabError(f"{path} is damaged; delete it and start the study again: finished runs are kept") from None

    def _write(self, name: str, value: Any) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.root / name, jsontext.text(value))
