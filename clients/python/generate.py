"""protos/ -> *descriptors and types* under cascade_client/_proto. Needs grpcio-tools, which users of the client do not.

The messages are made at import from one file of descriptors, in a descriptor pool of their own: so they live beside
the server's own ``cascade.v1``, or another release of this client's contract, in one process, and with any protobuf
that the package allows, not only with one as new as the generator.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
SOURCES = (HERE.parents[1] / "protos", HERE.parent / "protos")
FILES = (
    "cascade/v1/check.proto",
    "cascade/v1/cascade_service.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
    "grpc/health/v1/health.proto",
)
IMPORT = re.compile(r"^from (?:cascade\.v1|google\.rpc|grpc\.health\.v1) import ", re.MULTILINE)
MODULE = '''"""The messages of {file}. Made by generate.py."""

from cascade_client._proto._pool import load

load("{file}", __name__, globals())
'''


def generate(out: Path) -> None:
    """Writes cascade.binpb and, for each file, a module and its types."""
    with tempfile.TemporaryDirectory() as made:
        includes = [f"-I{path}" for path in (*SOURCES, files("grpc_tools") / "_proto")]
        targets = ["--include_imports", f"--descriptor_set_out={out / 'cascade.binpb'}", f"--pyi_out={made}"]
        if protoc.main(["protoc", *includes, *targets, *FILES]) != 0:
            sys.exit("protoc failed")
        for file in FILES:
            name = f"{Path(file).stem}_pb2"
            types = Path(made, file).with_name(f"{name}.pyi").read_text()
            types = IMPORT.sub("from cascade_client._proto import ", types).replace(
                "_Mapping]", "_Mapping[str, object]]"
            )
            (out / f"{name}.pyi").write_text(types)
            (out / f"{name}.py").write_text(MODULE.format(file=file))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "cascade_client/_proto")
