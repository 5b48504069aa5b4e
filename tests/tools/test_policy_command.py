import tomllib
from collections.abc import Callable
from pathlib import Path

from cascade.policy import default_policy, parse
from tests.tools.conftest import Done

Run = Callable[..., Done]


def test_shows_the_default_policy_so_that_it_can_be_loaded(cascade: Run) -> None:
    done = cascade("policy", "show")
    assert done.code == 0
    assert parse(done.out).revision == default_policy().revision
    assert done.out.startswith(f"# revision {default_policy().revision}\n")
    found = cascade("policy", "show", "--json").json()
    assert found["revision"] == default_policy().revision
    assert found["policy"] == tomllib.loads(done.out)


def test_validates(cascade: Run, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('schema = 1\nname = "good"\n')
    good = cascade("policy", "validate", "good.toml")
    assert (good.code, good.out.startswith("valid, revision ")) == (0, True)
    (tmp_path / "bad.toml").write_text('schema = 1\nname = "bad"\ncolour = 3\n[hazards.boredom]\nthreshold = 0.5\n')
    bad = cascade("policy", "validate", "bad.toml")
    assert (bad.code, bad.out) == (1, "")
    assert "colour: unknown key" in bad.err
    assert "boredom" in bad.err
    report = cascade("policy", "validate", "bad.toml", "--json")
    assert report.code == 1
    assert report.json()["valid"] is False
    assert report.json()["revision"] == ""
    assert len(report.json()["problems"]) == 2
    assert cascade("policy", "validate", "missing.toml").code == 1
    assert cascade("policy", "validate").code == 2


def test_compares(cascade: Run, tmp_path: Path) -> None:
    for name, low in (("a", 0.1), ("b", 0.2)):
        (tmp_path / f"{name}.toml").write_text(f'schema = 1\nname = "p"\n[route]\nlow = {low}\n')
    assert cascade("policy", "diff", "a.toml", "b.toml", "--json").json() == [
        {"key": "route.low", "before": 0.1, "after": 0.2}
    ]
    table = cascade("policy", "diff", "a.toml", "b.toml").out
    assert all(words in table for words in ("route.low", "0.1", "0.2", "a.toml"))
    assert cascade("policy", "diff", "a.toml", "a.toml").out == "no difference\n"
    keys = [change["key"] for change in cascade("policy", "diff", "default", "a.toml", "--json").json()]
    assert {"name", "route.low"} <= set(keys)


def test_a_bad_policy_is_one_line(cascade: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("schema = ")
    done = cascade("policy", "show", "bad.toml")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("cascade: no TOML")
