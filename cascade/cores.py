"""How many CPU cores this process may use: its affinity, within the quota of the control groups that it is in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Cores that this process may keep busy, at least 1; the broken core of a quota of 2.5 does not count.

    A container's quota (``docker --cpus``, a Kubernetes limit) leaves the affinity as it is: a thread on each core of
    the machine would use it up at the start of each period and then all stand still.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(groups, own)])))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """The quotas, in cores, of the process's groups and of all that they lie in; version 2 and version 1."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # not Linux, or nothing is mounted there: no control groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(groups, path):
                yield from _ratio(_words(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                for folder in _upwards(groups / mount, path):
                    yield from _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folders of a group and of those around it; in a container only the last one may be there."""
    group = PurePosixPath(path.lstrip("/"))
    for folder in (group, *group.parents):
        yield mount / folder


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _ratio(words: list[str]) -> Iterator[float]:
    """Quota and period in microseconds -> cores; "max" and -1 are no quota."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])
