"""A file of labelled texts or a log of scores, and a pipeline -> :class:`~cascade.tune.fit.Tuned`. Writes nothing else.

The cache of scores, which lies beside the output, is the exception: scoring is what takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cascade.build import check_policies
from cascade.errors import UnsupportedError
from cascade.evaluate.rows import DataError, Row, open_text, parse_row
from cascade.pipeline import Pipeline
from cascade.policy import Policy, PolicyStore, calibration_digest, fingerprint
from cascade.policy.certificate import CertifiedModel
from cascade.policy.model import Models
from cascade.tune.fit import Request, Tuned, fit
from cascade.tune.sample import check_rows
from cascade.tune.scores import read
from cascade.tune.scoring import loaded, score_cached
from cascade.tune.wishes import Wish
from stages.manifest import file_hash


@dataclass(frozen=True)
class Source:
    """Where the rows come from: a labelled file whose scores are kept in ``cache``, or without one a log of scores."""

    path: Path
    cache: Path | None

    def read(self) -> list[Row]:
        """The labelled rows of a file in the uniform form.

        Raises:
            DataError: the file cannot be read, has no rows, or a line is none.
        """
        try:
            with open_text(self.path) as lines:
                rows = [parse_row(line, f"{self.path.name}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path.name}: cannot be read as (gzipped) UTF-8 text") from error
        if not rows:
            raise DataError(f"{self.path.name}: has no rows")
        return rows


@dataclass(frozen=True)
class Aim:
    """What is wished for and how it is drawn; see :class:`~cascade.tune.fit.Request`."""

    wishes: tuple[Wish, ...]
    delta: float
    name: str
    seed: int


async def tune(
    source: Source,
    rows: list[Row],
    pipeline: Pipeline,
    base: Policy,
    aim: Aim,
    *,
    in_flight: int,
    on_row: Callable[[Row], None] = lambda row: None,
) -> tuple[Tuned, Request]:
    """Scores what is not scored yet, then fits and certifies.

    Args:
        source: the file.
        rows: its rows, if it is no log.
        pipeline: the models; its policy is not used.
        base: what is not tuned, merge rule and actions above all, is this policy's.
        aim: what is wished for.
        in_flight: rows that are scored at once.
        on_row: called after each row that is scored.

    Raises:
        UnsupportedError: there is no stage 2, or a stage only names hazards.
        PolicyError: the network of the policy's router was fitted on other models.
        DataError: the rows cannot carry the wishes, which is told before any is scored, or other models scored them.
        EvaluationError: a row could not be judged.
    """
    if "stage2" not in pipeline.stages:
        raise UnsupportedError("tuning is about what stage 1 passes on: it needs a stage 2")
    for name, batcher in pipeline.stages.items():
        if not batcher.stage.info.judges:
            raise UnsupportedError(f"{name} names hazards but does not judge: there is no merged score to tune")
    # What an earlier policy was fitted on, or certified for, says nothing of these models.
    base = base.model_copy(update={"models": Models(), "certificate": None, "reference": None})
    check_policies([base], {name: batcher.stage for name, batcher in pipeline.stages.items()})
    judging = Pipeline(pipeline.stages["stage1"], pipeline.stages["stage2"], PolicyStore([base]), pipeline.limits)
    data = file_hash(source.path)
    if source.cache is None:
        log = read(source.path, loaded(judging))
        check_rows(log.rows, aim.wishes, aim.delta, aim.seed, log.drawn)
        scored = log.rows
    else:
        check_rows(rows, aim.wishes, aim.delta, aim.seed)
        scored = await score_cached(rows, data, judging, source.cache, in_flight=in_flight, on_row=on_row)
    request = Request(aim.wishes, aim.delta, base, aim.name, data, certified_models(judging), aim.seed)
    return fit(scored, request), request


def certified_models(pipeline: Pipeline) -> dict[str, CertifiedModel]:
    """Each stage as a certificate names it."""
    return {
        name: CertifiedModel(
            name=batcher.stage.info.name,
            revision=batcher.stage.info.revision,
            files=fingerprint(batcher.stage.info.files),
            calibration=calibration_digest(batcher.stage.calibration),
        )
        for name, batcher in pipeline.stages.items()
    }
