"""Models that were loaded are listed, and an earlier one is restored, if its files are still there."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.errors import CascadeError
from cascade.policy import fingerprint
from cascade.serve.model_history import KEPT, read, record
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.model_service_pb2 import ListModelsRequest, ReloadModelsRequest
from stages.manifest import Manifest, file_hash, revision_of
from stages.registry import EMBEDDED
from tests.serve.calling import stubs
from tests.serve.conftest import COMMAND, ServerProcess
from tests.serve.test_reload import turn, wait_until


def models(*arguments, code=0):
    """Runs `cascade models`; returns what it says, of an error too."""
    done = CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "500"})
    if isinstance(done.exception, CascadeError):  # main() makes one line of it
        assert code == 1
        return str(done.exception)
    assert done.exit_code == code, done.output
    return done.output


def listed(state):
    rows = json.loads(models("history", "--state-dir", state, "--json"))
    return [(row["stage"], row["revision"], Path(row["folder"]).name, row["current"], row["there"]) for row in rows]


@pytest.fixture
def versions(tmp_path):
    """Stage 1 twice, under two revisions, and a link to the first: link, revision of the one and of the other."""
    first = shutil.copytree(EMBEDDED["tinysafe"], tmp_path / "v1")
    second = shutil.copytree(first, tmp_path / "v2")
    with (second / "tokenizer.json").open("a") as file:
        file.write("\n")
    manifest = Manifest.load(second)
    files = {name: file_hash(second / name) for name in manifest.files}
    manifest.model_copy(update={"files": files, "revision": revision_of(files)}).save(second)
    (tmp_path / "current").symlink_to("v1")
    return tmp_path / "current", Manifest.load(first).revision, Manifest.load(second).revision


def test_an_earlier_revision_is_listed_and_restored(tmp_path, versions):
    link, one, two = versions
    state = tmp_path / "state"
    command = [*COMMAND, "serve", "--port", "0", "--stage1", str(link), "--stage2", "none", "--state-dir", str(state)]
    server = ServerProcess([*command, "--workers", "2"], tmp_path)
    try:
        call = stubs(server.channel)
        assert listed(state) == [("stage1", one, "v1", True, True)]
        turn(link, "v2")
        reloaded = call.models.ReloadModels(ReloadModelsRequest(), timeout=60)
        assert reloaded.models[0].revision == two
        wait_until(lambda: listed(state)[0] == ("stage1", two, "v2", True, True))
        assert listed(state)[1:] == [("stage1", one, "v1", False, True)]
        assert f"{one} " in models("history", "--state-dir", state)

        assert models("restore", one, "--state-dir", state) == f"stage1: {link} -> {tmp_path / 'v1'} ({one})\n"
        wait_until(lambda: call.models.ListModels(ListModelsRequest()).models[0].revision == one)  # it watches
        assert call.cascade.Check(CheckRequest(text="hello"), timeout=60).stages[0].revision == one
        wait_until(lambda: len(listed(state)) == 3)
    finally:
        server.close()
    assert [row[1] for row in listed(state)] == [one, two, one]


def test_what_cannot_be_restored_is_refused(tmp_path, versions):
    link, one, two = versions
    state = tmp_path / "state"
    state.mkdir()
    assert listed(state) == []
    for version in ("v1", "v2"):
        turn(link, version)
        record(state, {"stage1": str(link)}, {"stage1": fingerprint_of(tmp_path / version)})
    where = ["--state-dir", state]
    assert "knows no such revision" in models("restore", "0" * 12, *where, code=1)
    (tmp_path / "v1" / "tokenizer.json").write_text("{}")
    assert "v1 does not hold revision" in models("restore", one, *where, code=1)
    shutil.copytree(tmp_path / "v2", tmp_path / "v1", dirs_exist_ok=True)
    assert "it has other files" in models("restore", one, *where, code=1)
    shutil.rmtree(tmp_path / "v1")
    assert "does not hold" in models("restore", one, *where, code=1)
    assert listed(state) == [("stage1", two, "v2", True, True), ("stage1", one, "v1", False, False)]
    assert "not there any more" in models("history", *where)
    assert link.resolve() == tmp_path / "v2"
    link.unlink()
    shutil.copytree(tmp_path / "v2", link)
    assert "no link that could be turned" in models("restore", two, *where, code=1)


def test_two_stages_of_one_revision_have_to_be_told_apart(tmp_path, versions):
    link, one, _ = versions
    other = tmp_path / "other"
    other.symlink_to("v2")
    found = fingerprint_of(tmp_path / "v1")
    record(tmp_path, {"stage1": str(link), "stage2": str(other)}, {"stage1": found, "stage2": found})
    assert "--stage" in models("restore", one, "--state-dir", tmp_path, code=2)
    assert models("restore", one, "--state-dir", tmp_path, "--stage", "stage1").startswith("stage1: ")


def test_the_history_has_what_changed_and_an_end(tmp_path, versions, caplog):
    link, one, two = versions
    fingerprints = [fingerprint_of(tmp_path / version) for version in ("v1", "v2")]
    for number in range(KEPT + 3):
        for _ in range(2):  # what is loaded again is no news
            record(
                tmp_path, {"stage1": str(link), "stage2": "grpc://127.0.0.1:9"}, {"stage1": fingerprints[number % 2]}
            )
    history = read(tmp_path)
    assert len(history) == KEPT
    assert [entry.revision for entry in history[-2:]] == [two, one]
    record(tmp_path, {"stage1": "tinysafe"}, {"stage1": fingerprints[0]})
    assert read(tmp_path)[-1].given == "tinysafe"
    (tmp_path / "models.json").write_text("{")
    record(tmp_path, {"stage1": str(link)}, {"stage1": fingerprints[1]})
    assert "the history of models cannot be written" in caplog.text
    assert "cannot be read" in models("history", "--state-dir", tmp_path, code=1)


def fingerprint_of(folder):
    return fingerprint(Manifest.load(folder).files)
