"""``cascade data``: imports published sets, checks them for evaluation rows, relabels and synthesises with a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.extras import needs_extra
from cascade.cli.options import Json
from cascade.cli.verdicts import add as add_verdicts

if TYPE_CHECKING:
    from training.data.llm.prices import Estimate

CONTAMINATED = 3

Out = Annotated[
    Path, typer.Option(help="Set to write, NAME.jsonl or NAME.jsonl.gz; MANIFEST.json beside it gets its entry.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the estimate of the cost and send nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before money is spent.")]
Rules = Annotated[Path | None, typer.Option(help="Constitution, TOML. Default: the included one.", show_default=False)]
PRICE = "dollars for a million tokens, INPUT,OUTPUT, without the discount of batches; for a model not known here."

commands = typer.Typer(no_args_is_help=True, help="Import, check, relabel and synthesise training data.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add_verdicts(commands)
    app.add_typer(commands, name="data")


@commands.command("import")
def import_source(
    source: Annotated[str, typer.Argument(help="Which published set it is, for instance wildguardmix.")],
    where: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="Its file (.csv, .json, .jsonl, .parquet), a copy of its hub folder, or its hub id."
        ),
    ],
    out: Out,
    split: Annotated[str, typer.Option(help="The split to take.")] = "train",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the first so many records.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Turn a published set into the uniform form that recipes read.

    OUT's name must begin with the name of the source, by which its labels are read later. Exact duplicates are dropped,
    a record without a key that the source has is an error, and labels that mean nothing to the taxonomy are counted.
    """
    with needs_extra("train"):
        from training.data.importing import import_set
        from training.data.sources.registry import find_source
    imported = import_set(find_source(source), where, out, split=split, limit=limit)
    if json:
        print(dumps(imported.entry | {"unmapped_labels": dict(imported.unmapped)}))
        return
    _print_table(("what", "value"), [(key, _cell(value)) for key, value in imported.entry.items()])
    if imported.unmapped:
        unmapped = ", ".join(f"{label} ({count})" for label, count in imported.unmapped.most_common())
        print(f"labels without a meaning in the taxonomy, which stay unknown: {unmapped}")


@commands.command()
def contamination(
    sets: Annotated[
        list[Path] | None, typer.Argument(help="Training sets, or folders of them.", exists=True, show_default=False)
    ] = None,
    *,
    eval_: Annotated[
        list[Path], typer.Option("--eval", help="Folder of evaluation sets; may be given again.", exists=True)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the sets into, without the rows found.", show_default=False)
    ] = None,
    written: Annotated[bool, typer.Option("--written", help="Check the project's own corpus too.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 3 if a row was found.")] = False,
    json: Json = False,
) -> None:
    """Compare every training row with every evaluation row: equal, half of its 8-grams shared, or similar if short."""
    from cascade.evaluate.contamination import training_files

    with needs_extra("train"):
        from training.data.contamination import KINDS, check, check_sets, read_evaluation
        from training.data.written import WRITTEN, read_written
    paths = training_files(sets or [])
    evaluation = read_evaluation(eval_)
    report = check_sets(evaluation, paths, out)
    for name in WRITTEN if written else ():
        check(evaluation, name, [row.text for row in read_written(name)], report)
    found = sum(report.hits.values())
    if json:
        hits = [
            {"set": name, "evaluation": other, "kind": kind, "rows": count}
            for (name, other, kind), count in sorted(report.hits.items())
        ]
        print(dumps({"evaluation_rows": len(evaluation), "sets": dict(report.rows), "found": found, "hits": hits}))
    else:
        rows = [(name, str(total), str(report.of(name)), "", "") for name, total in report.rows.items()]
        for (name, other, kind), count in sorted(report.hits.items()):
            rows.append((name, "", str(count), other, kind))
        rows.sort(key=lambda row: (row[0], row[3], KINDS.index(row[4]) if row[4] else -1))
        _print_table(("set", "rows", "hits", "of evaluation set", "kind"), rows)
    if found and strict:
        raise typer.Exit(CONTAMINATED)


@commands.command()
def relabel(
    sets: Annotated[list[Path], typer.Argument(help="Sets in the uniform form.", exists=True, dir_okay=False)],
    out: Out,
    constitution: Rules = None,
    judge: Annotated[str, typer.Option(help="Model that judges every row.")] = "claude-haiku-5-5",
    second_judge: Annotated[str, typer.Option(help="Model that judges a share again.")] = "claude-sonnet-5-5",
    judge_price: Annotated[str | None, typer.Option(help=f"Price of the judge: {PRICE}", show_default=False)] = None,
    second_judge_price: Annotated[
        str | None, typer.Option(help=f"Price of the second judge: {PRICE}", show_default=False)
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the rows for the second judge.")] = 0.1,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Rows judged with less are dropped.")] = 0.85,
    keep_only_agreeing: Annotated[
        bool, typer.Option("--keep-only-agreeing", help="Drop rows whose judge disagrees with their own label.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only the first so many rows.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a language model label rows into the taxonomy, and a second one judge a share of them again.

    The texts go to Anthropic's Message Batches; the key is ANTHROPIC_API_KEY. OUT's name must begin with `relabelled`.
    The batches' ids and answers are kept in OUT.job: the same command after a stop goes on from there.
    """
    with needs_extra("train"):
        from training.data import relabel as relabelling
        from training.data.constitution import load_constitution
        from training.data.llm.client import make_client
        from training.data.llm.prices import price_of
        from training.data.made import check_name, read_rows, write_relabelled
    check_name(out, relabelling.NAME)
    plan = relabelling.Plan(
        relabelling.Judge(judge, price_of(judge, judge_price)),
        relabelling.Judge(second_judge, price_of(second_judge, second_judge_price)),
        share,
        confidence,
        keep_only_agreeing,
    )
    rows = read_rows(sets, limit)
    work = relabelling.Relabelling(rows, load_constitution(constitution), plan, _job_folder(out))
    if not _agreed(work.estimates(), dry_run, yes, json):
        return
    with _progress() as on_progress:
        result = work.run(make_client(), on_progress)
    write_relabelled(out, result, sets)
    _show_bill(out, result.report, len(result.rows), result.dollars, json)


@commands.command()
def synthesise(
    out: Out,
    constitution: Rules = None,
    model: Annotated[str, typer.Option(help="Model that writes.")] = "claude-sonnet-5-5",
    price: Annotated[str | None, typer.Option(help=f"Its price: {PRICE}", show_default=False)] = None,
    per_rule: Annotated[int, typer.Option(min=1, help="Prompts of each kind for each rule.")] = 40,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="pairs, hard-negatives or harmful; may be given again. Default: all.", show_default=False),
    ] = None,
    lang: Annotated[str, typer.Option(help="Tag of the language to write in.")] = "en",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a language model write prompts of a constitution's rules: minimal pairs, hard negatives, harmful ones.

    OUT's name must begin with `synthetic`. What is written is silver: judge it with `cascade data relabel
    --keep-only-agreeing` and check it with `cascade data contamination`. Key, OUT.job and a stop: as for relabel.
    """
    with needs_extra("train"):
        from training.data.constitution import load_constitution
        from training.data.llm.client import make_client
        from training.data.llm.prices import price_of
        from training.data.made import check_name, write_synthetic
        from training.data.synthesise import KINDS, NAME, Synthesis
    check_name(out, NAME)
    rules = load_constitution(constitution)
    folder = _job_folder(out)
    work = Synthesis(rules, model, price_of(model, price), folder, per_rule=per_rule, kinds=kind or KINDS, lang=lang)
    if not _agreed([(model, work.estimate())], dry_run, yes, json):
        return
    with _progress() as on_progress:
        result = work.run(make_client(), lambda done, of: on_progress("requests", done, of))
    write_synthetic(out, result, rules, model, lang)
    _show_bill(out, result.report, len(result.rows), result.dollars, json)


def _job_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.job")


def _agreed(estimates: list[tuple[str, Estimate]], dry_run: bool, yes: bool, json: bool) -> bool:
    """Shows the estimate; whether to go on. On stdout it stands alone or not at all: else the bill comes there."""
    if json and dry_run:
        found = {model: vars(estimate) for model, estimate in estimates}
        print(dumps({"estimate": found, "dollars": sum(estimate.dollars for _, estimate in estimates)}))
    else:
        rows = [
            (
                model,
                f"{found.requests:,}",
                f"{found.input_tokens:,}",
                f"{found.output_tokens:,}",
                f"{found.dollars:.2f}",
                f"{found.at_most:.2f}",
            )
            for model, found in estimates
        ]
        _print_table(("model", "requests", "tokens in", "tokens out", "$ about", "$ at most"), rows, stderr=json)
    if dry_run:
        return False
    return yes or typer.confirm("Send this and pay for it?", abort=True, err=json)


def _show_bill(out: Path, report: dict[str, Any], rows: int, dollars: float, json: bool) -> None:
    if json:
        print(dumps(report | {"out": str(out), "rows_written": rows, "total_dollars": round(dollars, 4)}))
        return
    _print_table(("what", "value"), [(key, _cell(value)) for key, value in report.items()])
    print(f"{out}: {rows} rows, {dollars:.4f} dollars")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, stderr: bool = False) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, stderr=stderr).print(table)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a job on stderr; yields what is told a job's name, its answers and their total."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def update(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=of)
            bar.update(tasks[name], completed=done)

        yield update
