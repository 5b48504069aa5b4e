"""Histories of policies, and the folder that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascade.errors import CascadeError, LimitExceededError, NotFoundError, PolicyError, PreconditionError
from cascade.policy import Policy
from cascade.policy.ledger import KEPT, POLICIES, Ledger, LedgerFolder
from tests.fakes import fake_policy


def variant(number: int, name: str = "default") -> Policy:
    return fake_policy(f"[stage1]\nunsafe_threshold = {0.6 + number / 1000}\n", name=name)


def written(folder: Path, ledger: Ledger) -> Ledger:
    """What another server reads."""
    keeper = LedgerFolder(folder)
    keeper.write(ledger)
    keeper.close()
    reader = LedgerFolder(folder)
    try:
        return reader.read()
    finally:
        reader.close()


def test_a_history_goes_on_and_back(tmp_path: Path) -> None:
    first, second = variant(1), variant(2)
    ledger = Ledger().applied(first, source="a").applied(second).applied(variant(3, "other"))
    assert ledger.pushed
    assert ledger.policies == (second, variant(3, "other"))
    assert ledger.history().find(first.revision) == first
    with pytest.raises(NotFoundError):
        ledger.history().find("0" * 16)
    with pytest.raises(NotFoundError):
        ledger.history("nobody")
    back = ledger.applied(first)
    assert [kept.policy for kept in back.history().revisions] == [first, second]
    assert back.history().policy == first
    again = written(tmp_path, back)
    assert again == back
    assert not again.applied(second, source="b").pushed


def test_what_was_expected_is_checked() -> None:
    ledger = Ledger().applied(variant(1), source="a")
    ledger.expect("default", variant(1).revision)
    ledger.expect("new", "")
    for name, revision in (("default", variant(2).revision), ("default", ""), ("new", variant(1).revision)):
        with pytest.raises(PreconditionError):
            ledger.expect(name, revision)


def test_there_is_an_end_to_what_is_kept(tmp_path: Path) -> None:
    ledger = Ledger().applied(variant(0), source="a")
    for number in range(1, KEPT + 10):
        ledger = ledger.applied(variant(number))
    assert len(ledger.history().revisions) == KEPT
    assert ledger.history().policy == variant(KEPT + 9)
    with pytest.raises(NotFoundError):
        ledger.history().find(variant(0).revision)
    kept = ledger.history().revisions[0].policy
    assert ledger.applied(kept).applied(variant(0)).history().policy == variant(0), "what is current is never forgotten"
    assert written(tmp_path, ledger) == ledger
    assert len(list((tmp_path / "policies" / "default").glob("*.toml"))) == KEPT
    for number in range(POLICIES - 1):
        ledger = ledger.applied(variant(0, f"p{number}"))
    with pytest.raises(LimitExceededError):
        ledger.applied(variant(0, "one-too-many"))


def test_damage_is_told_and_old_revisions_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    ledger = Ledger().applied(variant(1), source="a").applied(variant(2))
    assert written(tmp_path, ledger) == ledger
    old = tmp_path / "policies" / "default" / f"{variant(1).revision}.toml"
    old.write_text('schema = 7\nname = "default"\n')
    reader = LedgerFolder(tmp_path)
    assert [kept.policy for kept in reader.read().history().revisions] == [variant(2)]
    current = tmp_path / "policies" / "default" / f"{variant(2).revision}.toml"
    current.write_text(variant(3).toml)
    with pytest.raises(PolicyError, match="was changed"):
        reader.read()
    current.unlink()
    with pytest.raises(PolicyError, match="cannot be read"):
        reader.read()
    (tmp_path / "policies.json").write_text("{")
    with pytest.raises(PolicyError, match=r"policies\.json"):
        reader.read()
    reader.close()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger().applied(variant(1), source="a")
    keeper = LedgerFolder(tmp_path)
    keeper.write(ledger)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CascadeError, match="No space left"):
        keeper.write(ledger.applied(variant(2)))
    monkeypatch.undo()
    assert keeper.read() == ledger
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "nothing half written is left"
    keeper.close()


def test_a_change_that_was_written_down_stands_though_old_files_cannot_be_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger().applied(variant(1), source="a")
    keeper = LedgerFolder(tmp_path)
    keeper.write(ledger)
    (tmp_path / "policies" / "default" / "somebody's.toml").mkdir()
    keeper.write(ledger.applied(variant(2)))
    assert keeper.read().history().policy == variant(2)
    assert "cannot be deleted" in caplog.text
    keeper.close()


def test_a_folder_has_one_keeper(tmp_path: Path) -> None:
    keeper = LedgerFolder(tmp_path)
    with pytest.raises(CascadeError, match="another server"):
        LedgerFolder(tmp_path)
    keeper.close()
    LedgerFolder(tmp_path).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(CascadeError, match="cannot keep"):
        LedgerFolder(tmp_path / "file")


def test_an_index_names_its_default(tmp_path: Path) -> None:
    written(tmp_path, Ledger().applied(variant(1), source="a"))
    index = json.loads((tmp_path / "policies.json").read_text())
    (tmp_path / "policies.json").write_text(json.dumps(index | {"default": "nobody"}))
    keeper = LedgerFolder(tmp_path)
    with pytest.raises(PolicyError, match="nobody"):
        keeper.read()
    keeper.close()
