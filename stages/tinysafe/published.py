"""TinySafe v1 and v2 as their author publishes them: DeBERTa-v3 with two heads, as ONNX, safetensors or ``.pt``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from stages.contents import ONNX, PICKLES, Contents
from stages.encoder import Network, NetworkStage, Tokenizer
from stages.errors import ModelError, StageError
from stages.runtime.onnx import OnnxNetwork
from stages.runtime.sentences import SentencePieceTokenizer
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Calibration, ModelInfo, Window
from stages.system import System
from stages.taxonomy import TINYSAFE_CATEGORIES, TINYSAFE_VERSION

WINDOW_TOKENS, OVERLAP = 512, 64
OUTPUTS = ("binary_logit", "category_logits")
V1_HEADS = frozenset({"binary_head.1.weight", "category_head.1.weight"})
V2_HEADS = frozenset({"binary_head.weight", "category_head.weight"})
WEIGHTS = ("model.safetensors", *PICKLES)  # what torch loads, the preferred first
TOKENIZERS = ("spm.model", "tokenizer/spm.model", "tokenizer.json", "tokenizer/tokenizer.json")


class SpecialTokenizer(Tokenizer, Protocol):
    """A tokenizer that tells which ids it puts around a text and which is its largest."""

    special: tuple[int, ...]

    @property
    def largest_id(self) -> int:
        """The largest id of its vocabulary."""


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of a published folder. On the CPU a ``model.onnx`` comes first: it needs no torch.

    Raises:
        ModelError: a file is missing, damaged or does not fit the others.
        DependencyError: there is no such device.
    """
    contents = Contents(folder)
    system = next((system for system in (V1, V2, EXPORT) if system.recognises(contents)), None)
    if system is None:
        raise ModelError(f"{folder}: neither TinySafe v1 nor v2")
    tokenizer = _tokenizer(contents)
    if ONNX in contents.files and device == "cpu" and dtype in (None, "float32"):
        onnx = OnnxNetwork(folder / ONNX, OUTPUTS)
        return _stage(system.info(contents, runtime="onnxruntime"), folder, tokenizer, onnx)
    weights = next((name for name in WEIGHTS if name in contents.files), None)
    if weights is None:
        raise ModelError(f"{folder}: it holds {ONNX} only, which runs on the CPU in float32")
    from stages.tinysafe.checkpoint import load_network

    torch = load_network(contents, weights, tokenizer.largest_id, device=device, dtype=dtype)
    info = system.info(contents, device=str(torch.device), runtime=torch.runtime)
    return _stage(info, folder, tokenizer, torch)


def _stage(info: ModelInfo, folder: Path, tokenizer: SpecialTokenizer, network: Network) -> NetworkStage:
    """The stage, after the tokenizer's largest id ran through the network: what does not fit must not serve."""
    first, last = tokenizer.special
    try:
        unsafe, labels = network.run([Window((first, tokenizer.largest_id, last), 0, 0)])
    except StageError as error:
        raise ModelError(
            f"{folder}: the network fails on the tokenizer's id {tokenizer.largest_id} ({error})"
        ) from error
    if unsafe.size != 1 or labels.shape != (1, len(info.labels)):
        raise ModelError(
            f"{folder}: outputs of shape {unsafe.shape} and {labels.shape}, not [1] and [1, {len(info.labels)}]"
        )
    return NetworkStage(info, Calibration(), tokenizer, network)


def _tokenizer(contents: Contents) -> SpecialTokenizer:
    """The folder's tokenizer: the SentencePiece model with which the system was trained, else a fast one."""
    name = next((name for name in TOKENIZERS if name in contents.files), None)
    if name is None:
        raise ModelError(f"{contents.folder}: it has no tokenizer, neither spm.model nor tokenizer.json")
    path = contents.folder / name
    if path.name == "spm.model":
        _check_settings(contents, (Path(name).parent / "tokenizer_config.json").as_posix())
        return SentencePieceTokenizer(path, window_tokens=WINDOW_TOKENS, overlap=OVERLAP)
    model = contents.json(name).get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind != "Unigram":
        raise ModelError(f"{path}: a {kind} tokenizer; DeBERTa-v3 has a Unigram one")
    tokenizer = WindowTokenizer(path, window_tokens=WINDOW_TOKENS, overlap=OVERLAP)
    if len(tokenizer.special) != 2:
        raise ModelError(f"{path}: it puts {len(tokenizer.special)} special tokens around a text, not [CLS] and [SEP]")
    return tokenizer


def _check_settings(contents: Contents, name: str) -> None:
    """Refuses settings of the slow tokenizer that would change its tokens and that TinySafe does not have."""
    settings = contents.json(name)
    for option in ("do_lower_case", "split_by_punct"):
        if settings.get(option):
            raise ModelError(f"{contents.folder / name}: {option} is on, which TinySafe's tokenizer does not do")


def _is_export(contents: Contents) -> bool:
    return not contents.tensors and set(OUTPUTS) <= contents.outputs


V1 = System(
    name="tinysafe-v1",
    kind="tinysafe",
    taxonomy=TINYSAFE_VERSION,
    labels=TINYSAFE_CATEGORIES,
    base="microsoft/deberta-v3-xsmall",
    licence="as its publisher states",
    window_tokens=WINDOW_TOKENS,
    recognises=lambda contents: contents.tensors >= V1_HEADS,
    load=load_published,
)
V2 = replace(
    V1,
    name="tinysafe-v2",
    base="microsoft/deberta-v3-small",
    licence="MIT",
    recognises=lambda contents: contents.tensors >= V2_HEADS,
)
# An export alone does not say which of the two it is.
EXPORT = replace(V1, name="tinysafe-onnx", base="microsoft/deberta-v3-xsmall or -small", recognises=_is_export)
