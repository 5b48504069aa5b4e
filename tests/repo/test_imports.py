"""Imports go one way, and the CPU path stays free of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.modules import OPTIONAL, ROOT, Import, imports, sources

# From the top down. A module imports from its own layer and from those below it.
LAYERS = (
    ("cascade.cli",),
    ("cascade.bench",),
    ("cascade.serve", "cascade.gateways", "cascade.observe", "cascade.evaluate", "cascade.scan", "cascade.tune"),
    ("cascade.bulk", "cascade.streaming"),
    ("cascade.build", "cascade.live"),
    ("cascade.pipeline",),
    ("cascade.answer", "cascade.explaining", "cascade.scoring"),
    ("cascade.memory", "cascade.provenance", "cascade.readings"),
    (
        "cascade.text",
        "cascade.routing",
        "cascade.merging",
        "cascade.policy",
        "cascade.batching",
        "cascade.breaker",
        "cascade.execution",
        "cascade.pace",
        "cascade.cache",
        "cascade.queueing",
        "cascade.job",
        "cascade.backlog",
        "cascade.content",
    ),
    (
        "cascade.errors",
        "cascade.limits",
        "cascade.cores",
        "cascade.jsonform",
        "cascade.tracing",
        "cascade.v1",
        "cascade",
    ),
    ("stages",),
)
TRAINING_USES = ("stages", "cascade.evaluate", "training")
FITTING = {
    # fit the policy of the pipeline that serves, and its router
    "training.held_out": ("cascade.build", "cascade.pipeline", "cascade.policy", "cascade.tune"),
    "training.fit_policy": ("cascade.policy", "cascade.tune"),
    "training.fit_blocking": ("cascade.policy", "cascade.tune"),
    "training.fit_delegation": ("cascade.policy", "cascade.routing", "cascade.tune"),
    "training.delegation": ("cascade.routing", "cascade.tune"),
    "training.routing_report": ("cascade.tune",),
    "training.compare_merges": ("cascade.merging", "cascade.policy", "cascade.tune"),
    "training.compare_stage2": ("cascade.policy", "cascade.tune"),
    # judges with models alone, as the server does
    "training.table": ("cascade.build", "cascade.bulk", "cascade.content", "cascade.pipeline", "cascade.v1"),
    "training.data.written": ("cascade.text",),  # writes exchanges as the pipeline reads them
}
# data, verdicts: import, make and judge sets; models: fetches backbones.
TRAINING_USERS = {f"cascade.cli.{name}" for name in ("train", "export", "data", "verdicts", "models")}
HEAVY = {"torch", "transformers", "peft", "accelerate", "onnx", "sklearn"}


def layer(module: str) -> int:
    """The layer of a module by its longest matching prefix; 0 is the top."""
    match = max(
        ((prefix, depth) for depth, names in enumerate(LAYERS) for prefix in names if within(module, prefix)),
        key=lambda found: len(found[0]),
        default=None,
    )
    if match is None or (match[0] == "cascade" and module != "cascade"):
        pytest.fail(f"{module} has no layer: give it one in LAYERS")
    return match[1]


def within(module: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return module == package or module.startswith(package + ".")


def wrong_way(statement: Import) -> bool:
    """Whether an import of one of the project's own modules goes against the order."""
    module, target = statement.module, statement.target
    if within(module, "training"):
        return not any(within(target, used) for used in (*TRAINING_USES, *FITTING.get(module, ())))
    if within(target, "training"):
        return module not in TRAINING_USERS or not statement.lazy
    if within(module, "stages.remote"):
        return not (within(target, "stages") or within(target, "cascade.v1"))
    return layer(target) < layer(module)


def own(root: Path = ROOT) -> list[Import]:
    """The imports between the project's own modules."""
    return [found for found in imports(root) if found.target.partition(".")[0] in ("cascade", "stages", "training")]


def test_imports_go_one_way() -> None:
    assert [str(found) for found in own() if wrong_way(found)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("stages/stage.py", "from cascade import errors"),
        ("stages/stage.py", "def late():\n    import cascade.pipeline"),
        ("cascade/policy/model.py", "from ..pipeline import Pipeline"),
        ("cascade/pipeline.py", "import cascade.serve.server"),
        ("cascade/cli/serve.py", "def serve():\n    import training.loop"),
        ("cascade/cli/train.py", "import training.loop"),
        ("training/loop.py", "from cascade.pipeline import Pipeline"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, source: str) -> None:
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert [found for found in own(tmp_path) if wrong_way(found)]


def test_every_module_of_the_service_imports_without_heavy_packages() -> None:
    service = [name for name in sources() if not within(name, "training") and not name.endswith("__main__")]
    modules = [name for name in service if name not in OPTIONAL]
    assert run_and_list_heavy(f"import importlib\nfor name in {modules}: importlib.import_module(name)") == []


def test_a_check_of_the_real_models_imports_no_heavy_packages() -> None:
    assert run_and_list_heavy("from cascade.cli import main; sys.argv = ['cascade', 'check']; main()") == []


def run_and_list_heavy(program: str) -> list[str]:
    """Runs a program in a fresh interpreter, in which it must end well, and tells which heavy packages it loaded."""
    wrapped = f"import sys\ntry:\n exec({program!r})\nexcept SystemExit as end:\n assert not end.code, end.code\n"
    wrapped += f"print('heavy:', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", wrapped], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]
