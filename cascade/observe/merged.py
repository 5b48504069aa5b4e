"""The metrics of several processes as those of one: *samples by process* -> counters added up, gauges told apart.

What counts up is summed over all processes, the dead ones too, so that it never goes back. A gauge is a fact about one
process, and how such facts add up (a sum of queues, but the largest of ages) is the reader's choice: each keeps its own
sample, with the process in the label ``worker``.

Not the multi-process mode of prometheus_client: that one needs a folder of mapped files and an environment variable set
before the package is imported, and has neither gauges that are read when they are asked for nor a process's own memory
and CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

COUNTING = frozenset({"counter", "histogram", "summary"})
CREATED = "_created"  # the sample that tells since when something is counted

Key = tuple[str, tuple[tuple[str, str], ...]]


class Merged(Collector):
    """Collects what ``scrape`` returns: families by process, and counts of processes that are no more."""

    def __init__(self, scrape: Callable[[], tuple[Mapping[str, Sequence[Metric]], Sequence[Metric]]]) -> None:
        self._scrape = scrape

    def describe(self) -> Iterable[Metric]:
        """Nothing, or the registry would scrape the processes to know what comes."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All families, merged."""
        living, dead = self._scrape()
        return merge(living, dead)


class _Found(Collector):
    """Collects what there is already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def merge(living: Mapping[str, Sequence[Metric]], dead: Sequence[Metric] = ()) -> list[Metric]:
    """One family of each name, with the counts of all and the gauges of the living."""
    merged: dict[str, Metric] = {}
    counts: dict[str, dict[Key, Sample]] = {}
    for process, family in [("", family) for family in dead] + [
        (process, family) for process, families in living.items() for family in families
    ]:
        into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type, family.unit))
        if family.type in COUNTING:
            _add(counts.setdefault(family.name, {}), family.samples)
        elif process:
            into.samples += [sample._replace(labels={**sample.labels, "worker": process}) for sample in family.samples]
    for name, samples in counts.items():
        merged[name].samples = list(samples.values())
    return list(merged.values())


def registry_of(families: Sequence[Metric]) -> CollectorRegistry:
    """A registry of what was collected elsewhere, for what writes registries down."""
    registry = CollectorRegistry()
    registry.register(_Found(families))
    return registry


def counted(*families: Sequence[Metric]) -> list[Metric]:
    """What is left of processes that are no more: what they have counted."""
    return [family for family in merge({}, [one for many in families for one in many]) if family.type in COUNTING]


def _add(into: dict[Key, Sample], samples: Iterable[Sample]) -> None:
    for sample in samples:
        key = sample.name, tuple(sorted(sample.labels.items()))
        before = into.get(key)
        if before is None:
            into[key] = sample._replace(exemplar=None)
        elif sample.name.endswith(CREATED):
            into[key] = before._replace(value=min(before.value, sample.value))
        else:
            into[key] = before._replace(value=before.value + sample.value)
