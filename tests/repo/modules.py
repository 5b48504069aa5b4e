"""The repository's own sources as data: which module imports which, at load time or inside a function."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cascade", "stages", "training")
PEERS = "cascade/bench/peers/apps"  # programs for other servers, which run in environments of their own

# Modules that need an extra as soon as they load, and which. The service imports them only inside functions.
OPTIONAL = {
    "cascade.gateways.bodies": "http",
    "cascade.gateways.calling": "http",
    "cascade.gateways.console": "http",
    "cascade.gateways.context": "http",
    "cascade.gateways.forms": "http",
    "cascade.gateways.http": "http",
    "cascade.gateways.listener": "http",
    "cascade.gateways.openai": "http",
    "cascade.observe.push": "otel",
    "cascade.observe.telemetry": "otel",
    "cascade.gateways.ray_serve.app": "ray",
    "cascade.scan.parquet": "parquet",
    "cascade.scan.places": "ray",
    "cascade.scan.ray_engine": "ray",
    "cascade.scan.shards": "ray",
    "cascade.scan.worker": "ray",
    "stages.constitutional.network": "gpu",
    "stages.duoguard.network": "gpu",
    "stages.hazard.legacy9_network": "gpu",
    "stages.hazard.adapted": "gpu",
    "stages.hazard.network": "gpu",
    "stages.judge.network": "gpu",
    "stages.runtime.classifier": "gpu",
    "stages.runtime.openvino": "openvino",
    "stages.runtime.torch": "gpu",
    "stages.tinysafe.checkpoint": "gpu",
    "stages.tinysafe.network": "gpu",
}


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target``; ``lazy`` when only a function's call or a type checker does so."""

    module: str
    target: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> file, for all that people wrote in the packages (generated stubs are none of it)."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.stem.endswith(("_pb2", "_pb2_grpc")) or path.parent == root / PEERS:
                continue
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> list[Import]:
    """Every import statement of the packages; ``from a import b`` counts as a.b where that is a module, else as a."""
    modules = sources(root)
    found = []
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, lazy in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, package, modules):
                found.append(Import(module, target, node.lineno, lazy))
    return found


def third_party(target: str) -> bool:
    """Whether an import's target comes from a distribution that has to be installed."""
    top = target.partition(".")[0]
    return top not in PACKAGES and top not in sys.stdlib_module_names


def _statements(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from _statements(ast.Module([child], []), True)
            for child in node.orelse:
                yield from _statements(ast.Module([child], []), lazy)
        else:
            yield from _statements(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def _targets(node: ast.Import | ast.ImportFrom, package: str, modules: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield full if full in modules or full.endswith(("_pb2", "_pb2_grpc")) else base
