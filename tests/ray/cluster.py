"""A Ray cluster of this test's own in a process group of its own, which nothing outlives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
# Ray's own bounds on how long a part of it may take to start are made for idle machines.
PATIENCE = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
}


def environment(home: Path) -> dict[str, str]:
    """Without settings of the user's; the token that Ray makes for its processes lies in ``home``."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADE_", "RAY_"))}
    return own | PATIENCE | {"PYTHONPATH": str(ROOT), "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}


def application(folder: Path, replicas: int) -> tuple[list[str], str]:
    """What :func:`started` takes to run deploy/ray/serve.yaml, so many replicas of each deployment, and its address.

    Only ports and sizes are other ones than in the file that people deploy.
    """
    config = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    address = f"127.0.0.1:{free_port()}"
    config["grpc_options"]["port"] = int(address.rpartition(":")[2])
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    config["proxy_location"] = "HeadOnly"
    for deployment in config["applications"][0]["deployments"]:
        deployment["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
        deployment["ray_actor_options"]["num_cpus"] = 0.1
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    return ["-m", "tests.ray.serve_run", str(folder / "serve.yaml")], address


@contextmanager
def started(arguments: list[str], home: Path, log: Path) -> Iterator[psutil.Process]:
    """A Python process that starts a cluster, and its end with everything that it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(home),
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    root = psutil.Process(process.pid)
    try:
        yield root
    finally:
        left = children(root)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in left:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, 30)


def children(root: psutil.Process) -> list[psutil.Process]:
    """All processes that a process has started, and those that they have."""
    try:
        return root.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def named(root: psutil.Process, title: str) -> list[psutil.Process]:
    """Those of them whose title, which Ray sets, has this in it."""
    found = []
    for child in children(root):
        try:
            if title in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody answers at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
