"""What a server is made of, as data: ``Config`` holds for its life, a ``Setup`` until the next one takes its place.

Both travel to worker processes. So they hold names, paths and numbers; what lives, a socket or an open file, is made of
them in the process that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cascade.gateways.surfaces import Surfaces
from cascade.observe.settings import Observe
from cascade.serve.admission import AdmissionSettings
from cascade.serve.endpoint import Endpoint
from cascade.serve.security import Security

if TYPE_CHECKING:
    from cascade.batching import Batcher
    from cascade.observe.logs import Level
    from cascade.pipeline import Pipeline
    from cascade.policy import Policy
    from cascade.serve.sources import Sources
    from cascade.serve.stage_host import HostedStage


class Load(Protocol):
    """Makes a pipeline. Blocks; runs on a thread."""

    def __call__(self, *, policies: Sequence[Policy], keep: Mapping[str, Batcher], stage2_address: str) -> Pipeline:
        """The pipeline with these policies, the default one first.

        Args:
            policies: the policies that requests may name.
            keep: stages of the pipeline before that are not to be loaded again, by name.
            stage2_address: where stage 2 runs in a process of its own; empty if it runs in this one.

        Raises:
            CascadeError: something cannot be used.
        """


@dataclass(frozen=True)
class Config:
    """Everything that the command line says of a server.

    Attributes:
        endpoint: where it listens, and how long it may take to stop.
        sources: where its policy and its models come from.
        load: makes the pipeline of each process; it can be pickled.
        hosted: stage 2 in a process of its own; None if it runs in the server's.
        state_dir: where policy revisions are kept, and which models were; None to keep the former in memory.
        watch: files that change are applied.
        log_level: the least that is logged.
        workers: processes that answer.
        max_connection_age_s: after about that time a connection is asked to be made anew; 0 for never.
        admission: how much each process takes at a time.
        security: who is let in, and what is kept of it.
        observe: what is told beside metrics and logs.
        surfaces: the standards of others that are answered, too.
    """

    endpoint: Endpoint
    sources: Sources
    load: Load
    hosted: HostedStage | None = None
    state_dir: Path | None = None
    watch: bool = True
    log_level: Level = "info"
    workers: int = 1
    max_connection_age_s: float = 0.0
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    security: Security = field(default_factory=Security)
    observe: Observe = field(default_factory=Observe)
    surfaces: Surfaces = field(default_factory=Surfaces)


@dataclass(frozen=True)
class Setup:
    """What every process of a server runs at a time.

    Attributes:
        policies: TOML of the policies, the default one first.
        stamps: the files of each stage's model as they were when it was loaded: another stamp is another load.
        stage2_address: where stage 2 runs in a process of its own; else empty.
    """

    policies: tuple[str, ...]
    stamps: Mapping[str, str]
    stage2_address: str = ""
