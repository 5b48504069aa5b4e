"""A report as one HTML page that opens without a network: no script, no font, no link. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from cascade.evaluate.svg import Chart

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left}"
    "figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{max-width:430px;color:#444}"
    "code{overflow-wrap:anywhere}.no{color:#b91c1c}.yes{color:#047857}"
)


def page(title: str, command: str, parts: Iterable[str]) -> str:
    """The page: a title, the command that made it, and parts, which are HTML."""
    head = f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
    top = f"<body><h1>{escape(title)}</h1><p><code>{escape(command)}</code></p>"
    return "\n".join(["<!doctype html>", head, top, *parts]) + "\n</body></html>\n"


def figure(chart: Chart, caption: str) -> str:
    """A chart with a line below it."""
    return f"<figure>{chart.svg()}<figcaption>{escape(caption)}</figcaption></figure>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
