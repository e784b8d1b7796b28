"""One folder a run, there whole or not at all.

A run is written into a temporary folder and renamed when it is finished, so a process may be killed anywhere.
A manifest with the hash of every file tells a folder that was damaged later, or by a power failure.
Processes that share a store claim a run before they do it; the system lets go of a dead process's claims.
"""

import contextlib
import enum
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext
from dcao_lab.files.locks import locked

CONFIG = "config.json"
METRICS = "metrics.jsonl"
STEPS = "steps.parquet"
TELEMETRY = "telemetry.jsonl"
RESULT = "result.json"
TIMING = "timing.json"
PROVENANCE = "provenance.json"
MANIFEST = "manifest.json"

_REQUIRED = {CONFIG, METRICS, STEPS, RESULT, TIMING, PROVENANCE}
PARTIAL = ".partial"
_DAMAGED = "damaged"
_CLAIMS = ".claims"
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class StoreError(LabError):
    """The store's folder cannot be used; every further run would fail alike."""


class RunState(enum.Enum):
    """What the store has of a run."""

    MISSING = "not run yet"
    FINISHED = "finished"
    DAMAGED = "its folder is damaged"


Claim = IO[bytes]
"""The right to do a run, until it is closed or the process ends, however it ends.

The file stays: to delete it safely while others wait for it takes more care than an empty file is worth.
"""


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
            raise StoreError(f"cannot make the folder {root} for runs: {error.strerror}; give another one") from None

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

    def claim(self, config: RunConfig) -> Claim | None:
        """The right to do the run, to be closed; None when another process, or another claim of this one, has it.

        Raises:
            LabError: The folder cannot be written to.
        """
        return self._claim(config.fingerprint())

    @contextlib.contextmanager
    def writing(self, config: RunConfig) -> Iterator[Path]:
        """A temporary folder that becomes the run's when the block ends without an exception.

        Have its :meth:`claim`, else another process may :meth:`sweep` the folder away.

        Raises:
            LabError: The disk is full, or cannot be written to.
        """
        folder = None
        try:
            with self._disk_errors_said():
                folder = self._temporary(config)
                jsontext.write(folder / CONFIG, config.to_dict())
                yield folder
                jsontext.write(folder / MANIFEST, _hashes(folder))
                self._rename(folder, self.folder(config))
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, config: RunConfig, files: Mapping[str, bytes]) -> None:
        """Keep a run that was done elsewhere, from the contents of its files by name."""
        with self.writing(config) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)

    def replace_damaged(self, config: RunConfig) -> str | None:
        """Move the run out of the way if it is damaged, and return a sentence that says why; None if it is not.

        Nothing is deleted. Hold its :meth:`claim`, else another process may be doing the run.
        """
        if self.state(config) is not RunState.DAMAGED:
            return None
        folder, place = self.folder(config), self.root / _DAMAGED
        reason = damage(folder, config)
        with self._disk_errors_said():
            place.mkdir(exist_ok=True)
            target = folder.rename(Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=place)) / folder.name)
        return f"{config.label} is done again: {reason} (what was there is now in {target})"

    def sweep(self) -> int:
        """Delete what interrupted runs left, but nothing of a run that is under way; how many there were."""
        leftovers = list((self.root / PARTIAL).glob("*"))
        return sum(self._delete_unless_claimed(leftover) for leftover in leftovers)

    def _delete_unless_claimed(self, leftover: Path) -> bool:
        claim = self._claim(leftover.name.partition("-")[0])
        if claim is None:
            return False
        with claim:
            shutil.rmtree(leftover, ignore_errors=True)
        return True

    def _claim(self, fingerprint: str) -> Claim | None:
        try:
            (self.root / _CLAIMS).mkdir(exist_ok=True)
            return locked(self.root / _CLAIMS / f"{fingerprint}.lock")
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._said(error) from error

    def _temporary(self, config: RunConfig) -> Path:
        partial = self.root / PARTIAL
        partial.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{config.fingerprint()}-", dir=partial))

    @contextlib.contextmanager
    def _disk_errors_said(self) -> Iterator[None]:
        """Turn what the disk of this store does into a sentence; other errors in the block, of data say, pass."""
        try:
            yield
        except OSError as error:
            is_here = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(self.root)
            if error.errno in _OF_THE_DISK or is_here:
                raise self._said(error) from error
            raise

    def _said(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to {self.root}: {error.strerror or error}; make room there or give another folder, "
            "and start again: finished runs are kept"
        )

    def _rename(self, folder: Path, target: Path) -> None:
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
