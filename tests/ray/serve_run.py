"""``serve run FILE`` on a small cluster of this process's own: python -m tests.ray.serve_run FILE."""

from __future__ import annotations

import sys

import ray
from ray.serve.scripts import cli

OBJECT_STORE_BYTES = 100 * 2**20


def main() -> None:
    """Starts the cluster and the application of the file, and stays until it is told to stop."""
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        namespace="serve",
    )
    cli(["run", sys.argv[1]], standalone_mode=False)


if __name__ == "__main__":
    main()
