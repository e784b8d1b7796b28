"""How many cores and threads the runs of this machine may use."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def default_threads(jobs: int, environment: Mapping[str, str] = os.environ, root: Path = _ROOT) -> int:
    """Threads of each of ``jobs`` processes: an equal share of the available cores, at least one.

    ``OMP_NUM_THREADS``, where it is set to a positive number, is an upper limit.

    Args:
        jobs: Processes that work at the same time.
        environment: Environment variables.
        root: Root of the file system that :func:`available_cores` reads.

    Example:
        >>> default_threads(jobs=10_000)
        1
    """
    share = max(1, available_cores(root) // jobs)
    limit = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has a number for each nested level
    return min(share, int(limit)) if limit.isdecimal() and int(limit) > 0 else share


def available_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: those of its affinity mask, or fewer if a container limits its CPU time.

    A fractional quota is rounded down: with one thread too many, all threads are throttled together.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_quota(root))))


def cpu_quota(root: Path = _ROOT) -> float:
    """CPU seconds per second that the control groups of this process allow; infinite if they set no limit.

    The limits of all parent groups apply too. Groups that cannot be seen are skipped: in a container
    ``/proc/self/cgroup`` may name a group of the host, while only the container's own group is mounted.
    """
    return min((limit for group in _groups(root) for limit in _limits(group)), default=math.inf)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, for CPU time, each with its parents."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = mount / "cpu" if controllers else mount  # version 1, or version 2, which has no name
        path = PurePosixPath(name.lstrip("/"))
        for group in (path, *path.parents):
            yield folder / group


def _limits(group: Path) -> Iterator[float]:
    """The limit of one group, in version 2 and in version 1."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    for allowed, every in (
        (quota, period),
        (_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")),
    ):
        if allowed.strip().isdecimal() and every.strip().isdecimal():  # "max" and -1 stand for no limit
            yield int(allowed) / int(every)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
