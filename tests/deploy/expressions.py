"""PromQL as data: which series an expression reads, and which of their labels."""

import json
import re
from pathlib import Path

import promql_parser as promql
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def parts(expression):
    """An expression's parts, itself included."""
    found = []
    promql.walk(expression, found.append)
    return found


def selectors(expression):
    """The vector selectors in an expression."""
    return [part for part in parts(expression) if isinstance(part, promql.VectorSelector)]


def asked(expression):
    """Each series that an expression reads, with the labels by which it is chosen or added up."""
    yield from ((found.name, {matcher.name for matcher in found.matchers.matchers}) for found in selectors(expression))
    for part in parts(expression):
        if isinstance(part, promql.AggregateExpr) and part.modifier:
            yield from ((found.name, set(part.modifier.labels)) for found in selectors(part.expr))


def dashboard():
    return json.loads((DEPLOY / "grafana/dashboards/cascade.json").read_text())


def alerts():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def adapter():
    """The custom metrics by name, each with its expression as the adapter asks for the pods of a release."""
    rules = yaml.safe_load((DEPLOY / "prometheus/adapter.yaml").read_text())["rules"]["custom"]
    filled = {"<<.GroupBy>>": "pod", "<<.LabelMatchers>>": 'namespace="n",pod=~"a|b"'}
    found = {}
    for rule in rules:
        query = rule["metricsQuery"]
        for variable, value in filled.items():
            query = query.replace(variable, value)
        found[rule["name"]["as"]] = query
    return found


def expressions():
    """Every expression under deploy/, by where it stands; Grafana's variables have values."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    found |= {f"custom metric {name}": query for name, query in adapter().items()}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            filled = target["expr"].replace("$__rate_interval", "5m").replace("$job", ".+")
            assert not re.search(r"\$\w", filled), f"{panel['title']}: a variable that nobody fills"
            found[f"panel {panel['title']} {target['refId']}"] = filled
    return found
