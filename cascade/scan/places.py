"""Files by path or URI, here or in a store: *"s3://bucket/in.jsonl"* -> a filesystem and a path in it. Needs ``ray``.

pyarrow brings local files, S3, GCS, Azure and HDFS; any other scheme is fsspec's business.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cascade.scan.records import ScanError, ScanUsageError
from stages.errors import DependencyError

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError as missing:
    raise DependencyError("the engine ray needs pyarrow: pip install 'safety-cascade[ray]'") from missing

_CHUNK = 2**20


@dataclass(frozen=True)
class Place:
    """A file or folder. It can be pickled, and so sent to another machine, to which a local path must mean the same.

    Attributes:
        uri: as it was named.
        path: in the filesystem.
        filesystem: pyarrow's.
    """

    uri: str
    path: str
    filesystem: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def info(self) -> Any:
        """Pyarrow's FileInfo of it."""
        with _told(self.uri):
            return self.filesystem.get_file_info(self.path)

    def __truediv__(self, name: str) -> Place:
        """What lies in the folder under this name."""
        return Place(f"{self.uri.rstrip('/')}/{name}", f"{self.path.rstrip('/')}/{name}", self.filesystem)

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return bool(self.info().type != fs.FileType.NotFound)

    def files(self) -> list[Any]:
        """The FileInfo of each file in the folder and the folders in it, by path.

        Names that begin with . or _ are left out: other programs leave such things beside their data.
        """
        with _told(self.uri):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True))
        start = len(self.path.rstrip("/")) + 1
        shown = [
            info
            for info in found
            if info.type == fs.FileType.File
            and not any(part.startswith((".", "_")) for part in info.path[start:].split("/"))
        ]
        return sorted(shown, key=lambda info: str(info.path))

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The file, opened to be read from anywhere in it."""
        with _told(self.uri), self.filesystem.open_input_file(self.path) as file:
            yield file

    def read(self) -> bytes:
        """The file's bytes."""
        with self.reading() as file:
            return bytes(file.read())

    def fetch(self, to: Path) -> None:
        """Copies the file to a local one."""
        with self.reading() as source, to.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)

    def put(self, source: Path, unfinished: Place) -> None:
        """Makes this the copy of a local file, in one step: nobody ever sees a part of it.

        Args:
            source: the local file.
            unfinished: the folder for what is on its way. Each try has a name of its own there.
        """
        way = unfinished / f"{self.name}.{uuid4().hex}"
        with _told(self.uri):
            self.filesystem.create_dir(unfinished.path, recursive=True)
            self.filesystem.create_dir(self.path.rpartition("/")[0], recursive=True)
            with source.open("rb") as file, self.filesystem.open_output_stream(way.path) as target:
                shutil.copyfileobj(file, target, _CHUNK)
            self.filesystem.move(way.path, self.path)

    def remove(self) -> None:
        """Removes the folder with everything in it."""
        with _told(self.uri):
            self.filesystem.delete_dir(self.path)


def shown(uri: str) -> str:
    """A path or URI without what may be secret in it: who asks, and the options."""
    return re.sub(r"://[^/?@]*@", "://", uri.partition("?")[0]) if "://" in uri else uri


def locate(uri: str) -> Place:
    """The place that a path or URI names.

    Raises:
        ScanUsageError: nobody knows such a URI.
    """
    if "://" not in uri:
        return Place(uri, str(Path(uri).absolute()), fs.LocalFileSystem())
    try:
        found, path = fs.FileSystem.from_uri(uri)
        return Place(shown(uri), path, found)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _through_fsspec(uri)
    except (OSError, ValueError) as error:
        raise ScanUsageError(f"{shown(uri)}: {error}") from error


def _through_fsspec(uri: str) -> Place:
    from fsspec.core import url_to_fs

    try:
        found, path = url_to_fs(uri)
    except (ImportError, OSError, ValueError) as error:
        raise ScanUsageError(f"{shown(uri)}: {error}") from error
    return Place(shown(uri), path, fs.PyFileSystem(fs.FSSpecHandler(found)))


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """What a filesystem cannot do is told with the name of the place."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ScanError(f"{uri}: {error}") from error
