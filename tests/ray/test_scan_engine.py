"""``cascade scan --engine ray`` on a local cluster: the local engine's rows, each once, whatever dies. `make ray`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.ray import cluster
from tests.ray.results import by_part, read, without_times

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make ray`"),
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]

WORDS = "how do I bake bread and keep tomato plants alive without that process which steals passwords"
ROWS = 900
WORKER = "ray::MapWorker"


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and what the local engine makes of it."""
    folder = tmp_path_factory.mktemp("scan")
    words = WORDS.split()
    texts = (" ".join(words[index * step % len(words)] for step in range(index % 17)) for index in range(ROWS))
    rows = [{"text": text} for text in texts]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command(folder, "in.jsonl", "--out", "local.jsonl")
    assert done.returncode == 0, done.stderr
    return folder


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "cascade.cli", "scan", *arguments]
    return subprocess.run(
        line, cwd=folder, env=cluster.environment(folder), capture_output=True, text=True, check=False, timeout=900
    )


def on_ray(out: Path, source: str, *more: str) -> list[str]:
    options = ["--engine", "ray", "--workers", "2", "--part-kb", "3"]
    return ["-m", "cascade.cli", "scan", source, "--out", str(out), *options, *more]


def notes(out: Path) -> list[Path]:
    return list((out / "_scan/done").rglob("*.json"))


def wait_for_parts(root: psutil.Process, out: Path, least: int, log: Path) -> None:
    until = time.monotonic() + 600
    while len(notes(out)) < least:
        assert root.is_running(), log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def assert_same(out: Path, local: Path) -> None:
    """Every row once, in order, as the local engine has it."""
    found = [without_times(row) for part in by_part(out).values() for row in part]
    assert found == [without_times(row) for row in read(local)]
    assert json.loads((out / "_SUCCESS").read_bytes())["rows"] == len(found)
    assert not (out / "_scan").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, of its settings
@pytest.mark.parametrize(("named", "expected"), [("", "local"), ("127.0.0.1:6379", None)])
def test_only_a_cluster_that_is_named_is_joined(
    named: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself Ray would join one that somebody else has started on this machine."""
    from cascade.scan import ray_engine

    asked: dict[str, object] = {}
    for name, fake in {
        "init": lambda **options: asked.update(options),
        "cluster_resources": lambda: {"CPU": 3.0},
        "shutdown": lambda: None,
    }.items():
        monkeypatch.setattr(ray_engine.ray, name, fake)
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_engine._cluster(None, 1) as workers:
        assert workers == 3
    assert asked.get("address") == expected
    assert ("num_cpus" in asked) == (not named), "Ray refuses to be told of the CPUs of a cluster that is there"


def test_a_worker_that_is_killed_costs_no_row(scanned: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with cluster.started(on_ray(out, str(scanned / "in.jsonl")), tmp_path, log) as root:
        wait_for_parts(root, out, 2, log)
        workers = cluster.named(root, WORKER)
        assert workers, "somebody judges"
        workers[0].kill()
        assert not (out / "_SUCCESS").exists(), "it died before the end"
        assert root.wait(900) == 0, log.read_text()
    assert f"{ROWS} rows" in log.read_text()
    assert_same(out, scanned / "local.jsonl")


def test_a_scan_that_was_killed_goes_on_from_its_parts(scanned: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with cluster.started(on_ray(out, str(scanned / "in.jsonl")), tmp_path, log) as root:
        wait_for_parts(root, out, 2, log)
        for process in [*cluster.children(root), root]:
            process.kill()
    kept = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("in-*") if path.is_file()}
    other = subprocess.run(
        [sys.executable, *on_ray(out, str(scanned / "in.jsonl"), "--text-field", "prompt")],
        cwd=tmp_path,
        env=cluster.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "another scan" in other.stderr
    with cluster.started(on_ray(out, str(scanned / "in.jsonl")), tmp_path, log) as root:
        assert root.wait(900) == 0, log.read_text()
    assert ", 0 taken over" not in log.read_text()
    noted = [path for path in kept if path.exists()]
    assert sum((path.stat().st_ino, path.stat().st_mtime_ns) == kept[path] for path in noted) >= 2
    assert_same(out, scanned / "local.jsonl")


def test_parquet_through_another_filesystem(scanned: Path, tmp_path: Path) -> None:
    """``local://`` is one that pyarrow does not know, so that fsspec is asked, as for any store of its kind."""
    import pyarrow as pa

    table = pa.Table.from_pylist([json.loads(line) for line in (scanned / "in.jsonl").read_text().splitlines()])
    (tmp_path / "in").mkdir()
    for index in range(3):
        pq.write_table(table.slice(index * 100, 100), tmp_path / f"in/{index}.parquet", row_group_size=10)
    source, out = f"local://{tmp_path}/in", f"local://{tmp_path}/out"
    done = command(tmp_path, source, "--out", out, "--engine", "ray", "--workers", "1", "--part-kb", "1")
    assert done.returncode == 0, done.stderr
    for index in range(3):
        whole = tmp_path / f"local-{index}.parquet"
        assert command(tmp_path, f"in/{index}.parquet", "--out", str(whole)).returncode == 0
        parts = by_part(tmp_path / "out", f"{index}-*-of-*")
        assert len(parts) > 1
        assert [without_times(row) for part in parts.values() for row in part] == [
            without_times(row) for row in read(whole)
        ]


@pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="moto is not installed: `make ray`")
def test_from_a_store_and_back_into_it(scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks S3's protocol; pyarrow's own client talks to it, here and in the workers."""
    from pyarrow import fs

    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "key", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    port = cluster.free_port()
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    with cluster.started(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], tmp_path, tmp_path / "log"):
        store, path = fs.FileSystem.from_uri(f"s3://bucket/in/a.jsonl?{options}")
        until = time.monotonic() + 120
        while not cluster.listens(port):
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        store.create_dir("bucket")
        with store.open_output_stream(path) as file:
            file.write((scanned / "in.jsonl").read_bytes())
        places = f"s3://bucket/in?{options}", f"s3://bucket/out?{options}"
        done = command(tmp_path, places[0], "--out", places[1], "--engine", "ray", "--workers", "1", "--part-kb", "20")
        assert done.returncode == 0, done.stderr
        assert "endpoint" not in done.stderr, "options may be secret"
        (tmp_path / "got").mkdir()
        for info in store.get_file_info(fs.FileSelector("bucket/out", recursive=True)):
            name = info.path.removeprefix("bucket/out/")
            (tmp_path / "got" / name).write_bytes(store.open_input_file(info.path).read())
    assert len(by_part(tmp_path / "got")) > 1
    assert_same(tmp_path / "got", scanned / "local.jsonl")
