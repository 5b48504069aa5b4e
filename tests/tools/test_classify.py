import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.conftest import FAKE_CLI, Done, in_process

Run = Callable[..., Done]

pytestmark = pytest.mark.usefixtures("fakes")


def test_json_of_one_text(cascade: Run) -> None:
    done = cascade("classify", "a bad hate thing", "--json")
    assert done.code == 0
    (answer,) = done.lines()
    assert answer["verdict"] == "VERDICT_UNSAFE"
    assert answer["route"] == {"escalated": True, "reason": "ROUTE_REASON_FLAGGED", "triggers": [], "audited": False}
    assert [hazard["slug"] for hazard in answer["hazards"] if hazard["flagged"]] == ["hate"]
    assert answer["degraded"] is False
    assert answer["spans"] == []


def test_people_read_the_verdict_and_why_but_not_the_text(cascade: Run) -> None:
    done = cascade("classify", "a bad hate thing [red]sic", "--explain")
    assert done.code == 0
    for words in ("UNSAFE", "BLOCK", "  escalated (flagged)", "S10 hate", "fake-tinysafe@r1", "text[0:25]"):
        assert words in done.out
    assert "thing" not in done.out
    assert "SAFE ALLOW" in cascade("classify", "a walk").out


def test_each_line_of_a_file_is_a_text(cascade: Run, tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes("a walk\r\n\na bad thing\u2028still it\nnot utf-8: ".encode() + b"\xff\nfine\n")
    done = cascade("classify", "-f", "texts", "--json")
    assert done.code == 1
    first, second, bad, last = done.lines()
    assert [answer["verdict"] for answer in (first, second, last)] == ["VERDICT_SAFE", "VERDICT_UNSAFE", "VERDICT_SAFE"]
    assert (bad["requestId"], bad["error"]["code"]) == ("3", "INVALID_REQUEST")
    (whole,) = cascade("classify", "--file", "texts", "--whole", "--json").lines()
    assert "error" in whole
    (tmp_path / "texts").write_text("a walk\nin a bad\nthing")
    assert len(cascade("classify", "--file", "texts", "--whole", "--json").lines()) == 1


def test_reads_standard_input(tmp_path: Path) -> None:
    for arguments in (["-"], ["-f", "-"]):
        done = in_process(FAKE_CLI, "classify", *arguments, "--json", folder=tmp_path, stdin=b"a bad thing\na walk\n")
        assert [answer["verdict"] for answer in done.lines()] == ["VERDICT_UNSAFE", "VERDICT_SAFE"], done.err


def test_an_exchange_counts_its_answer(cascade: Run) -> None:
    (answer,) = cascade("classify", "what is it", "--response", "a bad thing", "--explain", "--json").lines()
    assert answer["verdict"] == "VERDICT_UNSAFE"
    assert answer["spans"][0]["field"] == "exchange.response"


def test_stage_1_alone_and_another_policy(cascade: Run, tmp_path: Path) -> None:
    (answer,) = cascade("classify", "a bad thing", "--stage2", "none", "--json").lines()
    assert [stage["name"] for stage in answer["stages"]] == ["stage1"]
    (tmp_path / "p.toml").write_text(
        'schema = 1\nname = "mild"\n[stage1]\nunsafe_threshold = 0.99\n'
        '[route]\nlow = 0.9\nhigh = 0.995\naudit_rate = 0.0\n[merge]\nmode = "loose"\n'
    )
    (answer,) = cascade("classify", "a bad thing", "--policy", "p.toml", "--json").lines()
    assert answer["verdict"] == "VERDICT_SAFE"


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "-f", "b"], ["-", "--response", "r"], ["-f", "b", "--response", "r"], ["a", "--nonsense"]],
)
def test_wrong_usage(cascade: Run, arguments: list[str]) -> None:
    assert cascade("classify", *arguments).code == 2


def test_errors_are_one_line(cascade: Run) -> None:
    missing = cascade("classify", "-f", "missing")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    empty = cascade("classify", "")
    assert (empty.code, empty.out) == (1, "")
    assert empty.err == "1: text is empty: there is nothing to judge\n"
    assert json.loads(cascade("classify", "", "--json").out)["error"]["message"].startswith("text is empty")


def test_options_come_from_the_environment_and_the_settings_file_too(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CASCADE_JSON", "1")
    (tmp_path / "cascade.toml").write_text('[classify]\nstage2 = "none"\n')
    (answer,) = cascade("classify", "a bad thing").lines()
    assert [stage["name"] for stage in answer["stages"]] == ["stage1"]
