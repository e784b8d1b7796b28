"""A PostgreSQL server of the test's own, from the programs that Debian installs."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a new database on a server that listens on a socket in a temporary folder alone."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="dcao-postgres-", dir="/tmp"))  # a socket's path must be short
    _give_to_server(folder)
    data = folder / "data"
    try:
        _run(programs / "initdb", "-D", data, "-U", "lab", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        _run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        yield f"postgresql+psycopg://lab@/postgres?host={folder}"
    finally:
        if (data / "postmaster.pid").exists():
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    pytest.importorskip("psycopg", reason="psycopg is not installed; dcao[postgres] has it")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql (Debian: apt install postgresql)")
    return versions[-1].parent


def _run(*command: object) -> None:
    prefix = ["runuser", "-u", _user(), "--"] if os.geteuid() == 0 else []  # initdb refuses to run as root
    subprocess.run(
        [*prefix, *map(str, command)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/tmp",
    )


def _give_to_server(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, _user())


def _user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
