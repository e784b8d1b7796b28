"""Who is at work on a database of trials: locks that the system, or the database, lets go of when their holder dies."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from dcao_lab.errors import LabError
from dcao_lab.files.locks import locked

_EVERYBODY = 0xDCA0  # key of the lock that all share
_NOTICE_A_LOST_MACHINE = ("tcp_keepalives_idle = 60", "tcp_keepalives_interval = 10", "tcp_keepalives_count = 6")


class Locks(Protocol):
    """One process's view of who else is there.

    Attributes:
        owner: Name of this process among them.
    """

    owner: str

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Alone among all processes that use the same trials; waits for the others."""

    def is_alive(self, owner: str) -> bool:
        """Whether the process of that name is still there. Ask inside :meth:`exclusive`."""

    def close(self) -> None:
        """Be gone, for the others."""


@contextlib.contextmanager
def database_errors_said(url: str) -> Iterator[None]:
    """Turn what the database of the trials does into a sentence.

    Raises:
        LabError: It is damaged, full or gone.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        place = sqlalchemy.make_url(url).render_as_string(hide_password=True)
        raise LabError(
            f"cannot use the database of the trials, {place}: {reason}; make room, bring it back, or delete it if it "
            "is damaged, and start again: finished runs are kept"
        ) from error


def open_locks(url: str) -> Locks:
    """The locks that belong to the database at ``url``: files beside SQLite's, advisory locks in PostgreSQL.

    Raises:
        LabError: It is another kind of database, or it cannot be reached.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except SQLAlchemyError:
        raise LabError("--storage must be a database URL, for example postgresql+psycopg://user@host/name") from None
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return FileLocks(Path(f"{parsed.database}.locks"))
    if parsed.get_backend_name() == "postgresql":
        return PostgresLocks(parsed)
    raise LabError(f"--storage must be an SQLite file or PostgreSQL, got {parsed.render_as_string()}")


class FileLocks:
    """Locks on files of one machine.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.owner = secrets.token_hex(8)
        self._folder = folder
        with self.exclusive():  # between making the file and locking it nobody may look
            self._own = locked(self._file(self.owner), wait=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Alone among the processes of this machine."""
        with locked(self._file("everybody"), wait=True):
            yield

    def is_alive(self, owner: str) -> bool:
        """Whether that process still holds its file."""
        path = self._file(owner)
        if owner == self.owner or not path.exists():
            return owner == self.owner
        try:
            locked(path, wait=False).close()
        except BlockingIOError:
            return True
        path.unlink()
        return False

    def close(self) -> None:
        """Let go of this process's file."""
        self._file(self.owner).unlink(missing_ok=True)
        self._own.close()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


class PostgresLocks:
    """Advisory locks of a connection that is kept open; the server lets go of them when it is lost.

    Args:
        url: The database.
    """

    def __init__(self, url: sqlalchemy.URL) -> None:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        try:
            self._connection = engine.connect()
        except (SQLAlchemyError, ImportError) as error:
            place = url.render_as_string(hide_password=True)
            reason = str(error).splitlines()[0]
            raise LabError(f"cannot use the database {place}: {reason}; is it there, and dcao[postgres]?") from None
        if url.host and not url.host.startswith("/"):
            for setting in _NOTICE_A_LOST_MACHINE:
                self._connection.exec_driver_sql(f"SET {setting}")
        key = secrets.randbits(62)
        self.owner = str(key)
        self._call("pg_advisory_lock", key)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Alone among the processes that use this database."""
        self._call("pg_advisory_lock", _EVERYBODY)
        try:
            yield
        finally:
            self._call("pg_advisory_unlock", _EVERYBODY)

    def is_alive(self, owner: str) -> bool:
        """Whether that process's connection still holds its key."""
        if owner == self.owner:
            return True
        is_free = bool(self._call("pg_try_advisory_lock", int(owner)))
        if is_free:
            self._call("pg_advisory_unlock", int(owner))
        return not is_free

    def close(self) -> None:
        """Close the connection, and with it let go of everything."""
        self._connection.close()

    def _call(self, function: str, key: int) -> object:
        return self._connection.execute(sqlalchemy.text(f"SELECT {function}(:key)"), {"key": key}).scalar()
