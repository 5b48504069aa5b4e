"""``cascade data disagreements | verdicts | agreement``: finds doubtful labels, keeps what two judges say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.extras import needs_extra
from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, Json, PolicyFile, Stage1, Threads, open_pipeline
from cascade.cli.progress import rows_bar

if TYPE_CHECKING:
    from cascade.tune.scores import ScoredRow
    from training.data.disagreements import Contradicted
    from training.data.rows import Row
    from training.data.verdicts import Verdict

Answers = Annotated[Path, typer.Option(help='Lines {"id", "unsafe": true, false or null, "hazards"}.', exists=True)]
NAMED = 0.2  # a hazard of stage 2 is worth telling from there on


def add(commands: typer.Typer) -> None:
    """Adds the commands."""
    commands.command()(disagreements)
    commands.command()(verdicts)
    commands.command()(agreement)


def disagreements(
    out: Annotated[Path, typer.Option(help="JSONL with the texts, outside of the repository.")],
    data: Annotated[Path, typer.Option(help="Folder of sets in the uniform form.", exists=True, file_okay=False)],
    blind: Annotated[
        Path | None,
        typer.Option(
            help="Also write what a judge may see: id, text and language, in no telling order.", show_default=False
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Recipes whose sets are read. Default: tinysafe and hazard.", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Read these sets instead; may be given again.", show_default=False),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Rows to write.")] = 400,
    per_set: Annotated[
        int | None, typer.Option(min=1, help="Of them from one set. Default: an eighth.", show_default=False)
    ] = None,
    rows_a_set: Annotated[int, typer.Option(min=1, help="Rows of each set that are scored.")] = 400,
    in_flight: Annotated[int, typer.Option(min=1, help="Rows that are scored at the same time.")] = 32,
    stage1: Stage1 = TINYSAFE,
    stage2: Annotated[str, typer.Option(help="Model of stage 2.")] = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Write the training rows whose label the served models contradict most, to be judged again.

    Only rows with a binary label that were not judged yet. The scores are kept in OUT.scores.jsonl: the same command
    with another --n or --per-set scores nothing again.
    """
    with needs_extra("train"):
        from training.data.disagreements import Contradicted, candidates, most_contradicted, sets_of
        from training.data.verdicts import VERDICTS, load_finals, verdict_id
        from training.recipe import load_recipe
    for path in (out, blind):
        if path is not None and VERDICTS.parents[1].resolve() in path.resolve().parents:
            raise typer.BadParameter(f"{path} lies in the repository, where no text of a set belongs")
    names = set_ or sets_of([load_recipe(name) for name in recipe or (TINYSAFE, HAZARD)])
    rows = candidates(data, names, load_finals(), rows_a_set)
    scores = _score(rows, out, stage1, stage2, policy, threads, allow_score_drift, in_flight)
    found = [Contradicted(row, score.stage1, score.stage2) for row, score in zip(rows, scores, strict=True)]
    chosen = list(most_contradicted(found, n, per_set or max(1, n // 8)))
    by_id = {verdict_id(row.text): score for row, score in zip(rows, scores, strict=True)}
    _write(out, [_line(row, by_id[verdict_id(row.row.text)]) for row in chosen])
    if blind is not None:  # the ids are hashes: in their order nothing tells how a row was labelled
        texts = sorted((verdict_id(row.row.text), row.row.text, row.row.lang) for row in chosen)
        _write(blind, [{"id": name, "text": text, "lang": lang} for name, text, lang in texts])
    unsafe = sum(row.row.unsafe == 1 for row in chosen)
    if json:
        print(dumps({"out": str(out), "scored": len(rows), "written": len(chosen), "labelled_unsafe": unsafe}))
    else:
        print(f"{out}: {len(chosen)} of {len(rows)} rows, {unsafe} of them labelled unsafe")


def verdicts(
    rows: Annotated[Path, typer.Option(help="What `cascade data disagreements` wrote.", exists=True)],
    judge_a: Answers,
    judge_b: Answers,
    out: Annotated[Path, typer.Option(help="File of the store, for instance training/verdicts/NAME.jsonl.")],
    third: Annotated[
        Path | None, typer.Option(help="Who decides where the two differ.", exists=True, show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Join the answers of two judges into a file of the store, without the texts, and tell how far they agree."""
    with needs_extra("train"):
        from training.data.disagreements import read_sets
        from training.data.verdicts import as_lines, join, read_judged
        from training.data.writing import writing
    decided = {} if third is None else read_judged(third)
    joined = join(read_sets(rows), read_judged(judge_a), read_judged(judge_b), decided)
    with writing(out) as file:
        file.write(as_lines(joined))
    _show_agreement({out.name: joined}, json)


def agreement(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of verdicts. Default: those of training/verdicts.", exists=True, show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Tell how far the judges of the kept verdicts agree: share, Cohen's kappa, hazards."""
    with needs_extra("train"):
        from training.data.rows import DataError
        from training.data.verdicts import VERDICTS, read_verdicts
    paths = files or sorted(VERDICTS.glob("*.jsonl"))
    found = {path.name: read_verdicts(path) for path in paths}
    if not any(found.values()):
        raise DataError("no verdicts: `cascade data verdicts` writes them")
    _show_agreement({name: lines for name, lines in found.items() if lines}, json)


def _score(
    rows: list[Row],
    out: Path,
    stage1: str,
    stage2: str,
    policy: Path | None,
    threads: int | None,
    allow_score_drift: bool,
    in_flight: int,
) -> list[ScoredRow]:
    from cascade.evaluate.rows import Row as Text
    from cascade.tune.scoring import score_cached

    texts = [Text(row.id, row.text, None, bool(row.unsafe), row.labels, row.lang) for row in rows]
    digest = sha256("\0".join(row.text for row in rows).encode("utf-8", "surrogatepass")).hexdigest()
    cache = out.with_name(out.name + ".scores.jsonl")
    cache.parent.mkdir(parents=True, exist_ok=True)

    async def run() -> list[ScoredRow]:
        async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
            with rows_bar(len(texts)) as on_row:
                return await score_cached(texts, digest, pipeline, cache, in_flight=in_flight, on_row=on_row)

    return asyncio.run(run())


def _line(found: Contradicted, score: ScoredRow) -> dict[str, Any]:
    from training.data.verdicts import verdict_id

    row = found.row
    return {
        "id": verdict_id(row.text),
        "set": row.dataset,
        "row": row.id,
        "text": row.text,
        "lang": row.lang,
        "unsafe": row.unsafe,
        "labels": list(row.labels),
        "stage1": round(found.stage1, 4),
        "stage2": round(found.stage2, 4),
        "hazards": {name: round(p, 4) for name, p in score.hazards.items() if p >= NAMED},
        "distance": round(found.distance, 4),
    }


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    from training.data.writing import writing

    with writing(path) as file:
        file.writelines(dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _show_agreement(found: dict[str, list[Verdict]], json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from training.data.agreement import agreement as measure

    parts = found if len(found) == 1 else found | {"all": [line for lines in found.values() for line in lines]}
    figures = {name: measure(lines) for name, lines in parts.items()}
    if json:
        print(dumps({name: asdict(figure) for name, figure in figures.items()}))
        return
    table = Table("verdicts", "rows", "equal", "kappa", "both unsafe", "equal hazards", "left out")
    for name, figure in figures.items():
        shares = [f"{value:.3f}" if value is not None else "-" for value in (figure.kappa, figure.equal_hazards)]
        table.add_row(
            name,
            str(figure.rows),
            f"{figure.equal:.3f}",
            shares[0],
            str(figure.both_unsafe),
            shares[1],
            str(figure.left_out),
        )
    Console(markup=False).print(table)
