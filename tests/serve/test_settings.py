from pathlib import Path
from typing import Annotated

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from cascade.cli import COMMANDS, settings
from cascade.cli import app as cascade

run = CliRunner().invoke


@pytest.fixture
def app():
    """A command with options and a group with a command, as `cascade` has them."""
    made, group = typer.Typer(), typer.Typer()

    @made.callback()
    def root(context: typer.Context, config: Path | None = None) -> None:
        settings.name_variables(context.command)
        context.default_map = settings.load(config, context)

    @made.command()
    def serve(
        port: int = 1, policy: str = "built-in", gpu: bool = False, out: Annotated[Path, typer.Option("-o")] = Path("x")
    ) -> None:
        print(f"{port} {policy} {gpu} {out}")

    @group.command()
    def show(policy: str = "built-in") -> None:
        print(policy)

    @group.command()
    def diff(n_lines: int = 3, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        print(n_lines, as_json)

    made.add_typer(group, name="policy")
    return made


def written(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return str(path)


def test_command_line_before_environment_before_file_before_default(app, tmp_path):
    config = written(tmp_path, "policy = 'shared'\n[serve]\nport = 2\ngpu = true")
    assert run(app, ["serve"]).stdout == "1 built-in False x\n"
    assert run(app, ["--config", config, "serve"]).stdout == "2 shared True x\n"
    assert run(app, ["--config", config, "serve"], env={"CASCADE_PORT": "3"}).stdout == "3 shared True x\n"
    assert (
        run(app, ["--config", config, "serve", "--port", "4"], env={"CASCADE_PORT": "3"}).stdout == "4 shared True x\n"
    )
    assert run(app, ["serve"], env={"CASCADE_OUT": "y", "CASCADE_GPU": "1"}).stdout == "1 built-in True y\n"
    assert run(app, ["policy", "diff"], env={"CASCADE_JSON": "1"}).stdout == "3 True\n"
    assert run(app, ["--config", config, "policy", "show"]).stdout == "shared\n"
    config = written(tmp_path, "[policy.diff]\nn-lines = 9\njson = true")
    assert run(app, ["--config", config, "policy", "diff"]).stdout == "9 True\n"


def test_reads_cascade_toml_of_the_working_directory(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cascade.toml").write_text("[serve]\nport = 5")
    assert run(app, ["serve"]).stdout == "5 built-in False x\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 2", "prot"),
        ("[serve]\nprot = 2", "serve.prot"),
        ("[server]\nport = 2", "server"),
        ("[policy.show]\nn_lines = 2", "policy.show.n_lines"),
        ("not toml", "settings.toml"),
    ],
)
def test_refuses_what_no_option_answers_to(app, tmp_path, text, named):
    result = run(app, ["--config", written(tmp_path, text), "serve"], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert named in result.stderr


def test_refuses_a_value_of_the_wrong_kind(app, tmp_path):
    assert run(app, ["--config", written(tmp_path, "[serve]\nport = 'x'"), "serve"]).exit_code == 2
    assert run(app, ["--config", str(tmp_path / "missing.toml"), "serve"]).exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = run(cascade, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage: " in result.stdout


def test_every_option_of_serve_has_a_variable_and_a_help():
    group = typer.main.get_command(cascade)
    options = [option for option in group.get_command(None, "serve").params if option.name != "help"]
    names = [option.opts[0].removeprefix("--").replace("-", "_").upper() for option in options]
    assert [option.envvar for option in options] == [f"CASCADE_{name}" for name in names]
    assert all(option.help for option in options)
    assert "CASCADE_MAX_QUEUE" in run(cascade, ["serve", "--help"], env={"COLUMNS": "200"}).stdout


def test_an_unknown_command_is_a_usage_error():
    assert run(cascade, ["no-such-command"]).exit_code == 2
