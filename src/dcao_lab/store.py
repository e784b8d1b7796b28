"""One folder a run, there whole or not at all.

A run is written into a temporary folder and renamed when it is finished, so a process may be killed anywhere.
A manifest with the hash of every file tells a folder that was damaged later, or by a power failure.
"""

import contextlib
import enum
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dcao_lab import jsontext
from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError

CONFIG = "config.json"
METRICS = "metrics.jsonl"
STEPS = "steps.parquet"
TELEMETRY = "telemetry.jsonl"
RESULT = "result.json"
TIMING = "timing.json"
PROVENANCE = "provenance.json"
MANIFEST = "manifest.json"

_REQUIRED = {CONFIG, METRICS, STEPS, RESULT, TIMING, PROVENANCE}
_PARTIAL = ".partial"
_DAMAGED = "damaged"
_LOCK = ".lock"


class RunState(enum.Enum):
    """What the store has of a run."""

    MISSING = "not run yet"
    FINISHED = "finished"
    DAMAGED = "its folder is damaged"


class RunStore:
    """The runs below one folder.

    Args:
        root: The folder; it is made if it is not there.

    Example:
        >>> import tempfile
        >>> config = RunConfig(
        ...     workload="digits_mlp", optimizer="adamw", lr=1e-3, seed=0, num_steps=9, eval_every=3
        ... )
        >>> store = RunStore(Path(tempfile.mkdtemp()))
        >>> store.state(config)
        <RunState.MISSING: 'not run yet'>
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"cannot make the folder {root} for runs: {error.strerror}; give another one") from None

    def folder(self, config: RunConfig) -> Path:
        """Where the finished run is: a name to read, and the fingerprint that decides."""
        readable = f"{config.workload}-{config.optimizer}-{config.lr:g}-{config.seed}"
        return self.root / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', readable)}-{config.fingerprint()}"

    def state(self, config: RunConfig) -> RunState:
        """Whether the run is there, and whole."""
        folder = self.folder(config)
        if not folder.exists():
            return RunState.MISSING
        return RunState.FINISHED if damage(folder, config) is None else RunState.DAMAGED

    @contextlib.contextmanager
    def writing(self, config: RunConfig) -> Iterator[Path]:
        """A temporary folder that becomes the run's when the block ends without an exception."""
        partial = self.root / _PARTIAL
        partial.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{config.fingerprint()}-", dir=partial))
        try:
            jsontext.write(folder / CONFIG, config.to_dict())
            yield folder
            jsontext.write(folder / MANIFEST, _hashes(folder))
            self._publish(folder, self.folder(config))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def set_aside_damaged(self, config: RunConfig) -> Path:
        """Move a damaged run out of the way and return where it is now: nothing is deleted."""
        folder = self.folder(config)
        place = self.root / _DAMAGED
        place.mkdir(exist_ok=True)
        target = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=place))
        return folder.rename(target / folder.name)

    def sweep(self) -> int:
        """Delete what interrupted runs left; how many there were. Hold :meth:`exclusive` around it."""
        leftovers = list((self.root / _PARTIAL).glob("*"))
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)
        return len(leftovers)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes that use this store out. The system lets go of it when the process dies.

        Raises:
            LabError: Another process is at work here.
        """
        with (self.root / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(
                    f"another dcao-lab is at work in {self.root}; wait for it, or give this one another folder"
                ) from None
            yield

    def _publish(self, folder: Path, target: Path) -> None:
        try:
            os.rename(folder, target)
        except OSError:
            if not target.exists():  # else another process was first: its result stands
                raise


def damage(folder: Path, config: RunConfig) -> str | None:
    """What is wrong with a finished run's folder, in words; None when it is whole."""
    try:
        manifest = dict(jsontext.read(folder / MANIFEST))
        absent = sorted((_REQUIRED | set(manifest)) - {path.name for path in folder.iterdir()})
        if absent:
            return f"{', '.join(absent)} missing"
        changed = sorted(name for name, digest in manifest.items() if _hash(folder / name) != digest)
        if changed:
            return f"{', '.join(changed)} differs from what was written"
        if jsontext.read(folder / CONFIG) != config.to_dict():
            return f"{CONFIG} is of another run"
    except (OSError, ValueError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: _hash(path) for path in sorted(folder.iterdir())}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
