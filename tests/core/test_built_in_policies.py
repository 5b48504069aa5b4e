"""The policies that come with the embedded models: found by name, fitted on those models, told from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.policy import find, load
from cascade.policy.load import BUILT_IN
from stages.manifest import Manifest
from stages.registry import EMBEDDED


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_policy_was_fitted_on_the_models_that_it_comes_with(name: str) -> None:
    path = find(Path(name))
    assert load(path).name == name
    manifests = [Manifest.load(EMBEDDED[stage]) for stage in ("tinysafe", "hazard")]
    fitted_on = " and ".join(f"{manifest.name}@{manifest.revision}" for manifest in manifests)
    assert path.read_text().startswith(f"# Fitted by training.fit_policy on {fitted_on}.\n")


def test_the_commands_know_it_by_name_and_a_file_of_that_name_goes_first(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def shown(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["policy", "show", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["name"]

    assert [shown(name) for name in BUILT_IN] == list(BUILT_IN)
    assert shown() == "default"
    (tmp_path / "comments").write_text(load(find(Path("default"))).toml)
    assert shown("comments") == "default"
