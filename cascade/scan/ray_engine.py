"""A scan on many machines: *IN* -> shards -> Ray Data's actors, each with the local engine -> *OUT*, a folder of parts.

What is to be done is written down before it begins, in ``OUT/_scan/plan.json``: the shards, and what the outcomes
depend on. Each part appears whole under a name that follows from its shard alone. So whatever dies, Ray's worker or the
whole cluster, may be started again: what is there stays, what is not is made. Texts do not travel through Ray: a worker
reads its shard, and writes its part, by itself.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from cascade.cores import usable_cores
from cascade.pipeline import Pipeline
from cascade.scan.places import Place, locate
from cascade.scan.records import Fields, ScanError, ScanUsageError
from cascade.scan.run import Scanned, identity
from cascade.scan.shards import Shard, cut, numbered
from cascade.scan.worker import Judge, Task, count_rows, counts_of
from stages.errors import DependencyError

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.exceptions import RayError
except ImportError as missing:
    raise DependencyError(f"{missing.name} is missing: pip install 'safety-cascade[ray]'") from missing

SUCCESS = "_SUCCESS"
DEATHS = 8  # of workers on one shard, until the shard is at fault
OBJECT_STORE_BYTES = 128 * 2**20  # of a cluster that is started here: only shards' names and counts lie in it


@dataclass(frozen=True)
class RayJob:
    """A scan of a file or folder into a folder that is known to be possible; made by :func:`open_ray_job`.

    Attributes:
        source: the input.
        out: the folder of the output.
        fields: names of the input's columns or keys.
        part_bytes: of the input that become one part.
        workers: processes that judge; None for as many as the cluster has CPUs for.
        threads: batches that each stage of a worker scores at a time; so many CPUs each worker takes.
    """

    source: Place
    out: Place
    fields: Fields
    part_bytes: int
    workers: int | None
    threads: int

    def run(
        self,
        make: Callable[[], Pipeline],
        pipeline: Pipeline,
        *,
        in_flight: int,
        on_part: Callable[[int, int, int], None],
    ) -> Scanned:
        """Scans what OUT does not have yet.

        Args:
            make: what loads the pipeline in each worker; it can be pickled.
            pipeline: the same pipeline, here, for what the outcomes depend on.
            in_flight: rows that a worker judges at the same time.
            on_part: called with the parts that are done, all parts, and the rows that are done.

        Raises:
            ScanError: OUT is of another scan, the input changed, or a worker failed.
            ScanUsageError: a field is not there.
        """
        task = Task(self.source.filesystem, self.out, self.fields, in_flight)
        with _cluster(self.workers, self.threads) as workers:
            shards = self._plan(task, self._identity(pipeline))
            notes = {info.path.removeprefix(f"{task.notes.path}/") for info in task.notes.files()}
            kept = [shard for shard in shards if f"{shard.part}.json" in notes]
            rest = [shard for shard in shards if f"{shard.part}.json" not in notes]
            resumed = rows = sum(shard.rows for shard in kept)
            on_part(len(kept), len(shards), rows)
            for parts, outcome in enumerate(_judged(task, rest, make, workers, self.threads), len(kept) + 1):
                if outcome["error"]:
                    raise (ScanUsageError if outcome["usage"] else ScanError)(outcome["error"])
                rows += outcome["rows"]
                on_part(parts, len(shards), rows)
        return _finish(task, shards, resumed)

    def _identity(self, pipeline: Pipeline) -> dict[str, str]:
        """What the parts depend on. Of the input its files' sizes and times stand for what they hold."""
        info = self.source.info()
        files = [
            f"{found.path} {found.size} {found.mtime_ns}" for found in ([info] if info.is_file else self.source.files())
        ]
        known = {
            "input": blake2b("\n".join(files).encode(), digest_size=16).hexdigest(),
            "size of parts": str(self.part_bytes),
        }
        return known | identity(pipeline, self.fields)

    def _plan(self, task: Task, scan: dict[str, str]) -> list[Shard]:
        """The shards, as they were written down when the scan began."""
        plan = task.books / "plan.json"
        if plan.exists():
            known = json.loads(plan.read())
            if differ := sorted(key for key in scan if scan[key] != known["scan"].get(key)):
                raise ScanError(
                    f"{self.out.uri}: is of another scan (other {', '.join(differ)}); remove it to start anew"
                )
            return [Shard(**shard) for shard in known["shards"]]
        if self.out.files():
            raise ScanUsageError(f"{self.out.uri}: holds files that are not of this scan")
        shards = _counted(task, cut(self.source, self.part_bytes))
        task.keep(plan, {"scan": scan, "shards": [asdict(shard) for shard in shards]})
        return shards


def open_ray_job(
    source: str, out: str, fields: Fields, *, part_bytes: int, workers: int | None, threads: int | None
) -> RayJob:
    """Looks at the places, before any model is loaded or a cluster is asked.

    Raises:
        ScanUsageError: there is nothing to read, OUT is a file or lies in the input, or was finished before.
    """
    job = RayJob(locate(source), locate(out), fields, part_bytes, workers, threads or 1)
    if not job.source.exists():
        raise ScanUsageError(f"{job.source.uri}: no such file or folder")
    if job.out.info().is_file or f"{job.out.path}/".startswith(f"{job.source.path.rstrip('/')}/"):
        raise ScanUsageError(f"{job.out.uri}: is a file, or lies in the input; the engine ray writes a folder of parts")
    if (job.out / SUCCESS).exists():
        raise ScanUsageError(f"{job.out.uri}: holds a finished scan; remove it, or take another folder")
    return job


def _counted(task: Task, shards: Sequence[Shard]) -> list[Shard]:
    """The shards with their rows, counted where there is room."""
    rows = [{"index": index, "shard": asdict(shard)} for index, shard in enumerate(shards)]
    counts = [0] * len(rows)
    for found in _told(
        ray.data.from_items(rows, override_num_blocks=len(rows)).map(partial(count_rows, task)).iter_rows()
    ):
        if found["error"]:
            raise ScanError(found["error"])
        counts[found["index"]] = found["rows"]
    return numbered(shards, counts)


def _judged(
    task: Task, shards: Sequence[Shard], make: Callable[[], Pipeline], workers: int, threads: int
) -> Iterator[dict[str, Any]]:
    """What became of each shard, in the order in which they are done."""
    if not shards:
        return
    rows = [{"shard": asdict(shard)} for shard in shards]
    with warnings.catch_warnings():
        # There is no other way yet to say how often a shard is tried; Ray keeps this one until 2.64, as pyproject does.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Judge,
            fn_constructor_args=(task, make),
            compute=ActorPoolStrategy(min_size=1, max_size=min(workers, len(rows)), max_tasks_in_flight_per_actor=2),
            num_cpus=threads,
            max_restarts=-1,
            max_task_retries=DEATHS,
        )
    yield from _told(data.iter_rows())


def _finish(task: Task, shards: Sequence[Shard], resumed: int) -> Scanned:
    """Sees that each part is there with all its rows, says so in OUT, and removes what only the scan needed."""
    counts = [counts_of(task.note(shard).read()) for shard in shards]
    missing = [shard.part for shard, (rows, _) in zip(shards, counts, strict=True) if rows != shard.rows]
    found = {info.path.removeprefix(f"{task.out.path}/") for info in task.out.files()}
    missing += [shard.part for shard in shards if shard.part not in found]
    if missing:
        raise ScanError(f"{task.out.uri}: {len(missing)} parts are not as planned, {missing[0]} for one")
    scanned = Scanned(sum(rows for rows, _ in counts), sum(bad for _, bad in counts), resumed)
    task.keep(task.out / SUCCESS, {"rows": scanned.rows, "bad": scanned.bad, "parts": len(shards)})
    task.books.remove()
    return scanned


@contextmanager
def _cluster(workers: int | None, threads: int) -> Iterator[int]:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine; yields how many workers judge."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that texts are judged here
    context = DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    here: dict[str, Any] = {}
    if "RAY_ADDRESS" not in os.environ:
        cpus = (workers or max(1, usable_cores() // threads)) * threads
        here = {
            "address": "local",  # else Ray would join whatever cluster somebody has started on this machine
            "num_cpus": cpus + 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(logging_level=logging.WARNING, log_to_driver=False, **here)
    except (ConnectionError, RayError, RuntimeError) as error:
        raise ScanError(f"no Ray cluster can be had: {error}") from error
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    finally:
        ray.shutdown()


def _told(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What Ray cannot do is an error of the scan: its workers died again and again, or the cluster is gone."""
    try:
        yield from rows
    except RayError as error:
        raise ScanError(f"Ray gave up: {type(error).__name__}; what is done is kept") from error
