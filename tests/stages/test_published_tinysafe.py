"""TinySafe v1 and v2 in every published form score as their README's code does; what is damaged is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor

from stages.errors import ModelError
from stages.manifest import file_hash, revision_of
from stages.published import recognise
from stages.registry import load_stage
from stages.stage import Stage
from stages.taxonomy import TINYSAFE_CATEGORIES
from tests.stages.tinysafe_checkpoints import (
    TEXTS,
    WORDS,
    Published,
    config,
    export,
    network,
    readme,
    sentence_piece_model,
    write_tokenizer,
)

TOLERANCE = 1e-4

Write = Callable[[Published, Path], None]


def bare(made: Published, folder: Path) -> None:
    torch.save(made.state_dict(), folder / "model.pt")


def trainer_state(made: Published, folder: Path) -> None:
    """What TinySafe's trainer writes: the weights beside the optimizer's state, metrics and settings."""
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-5)
    metrics, settings = {"f1_macro": 0.5}, {"backbone": "microsoft/deberta-v3", "max_length": 512}
    state = {"epoch": 3, "model_state_dict": made.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(state | {"val_metrics": metrics, "config": settings}, folder / "best_model.pt")


def old_format(made: Published, folder: Path) -> None:
    torch.save(made.state_dict(), folder / "model.pt", _use_new_zipfile_serialization=False)


def safetensors(made: Published, folder: Path) -> None:
    save_file(made.state_dict(), folder / "model.safetensors")


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return sentence_piece_model()


@pytest.fixture(scope="module", params=[1, 2])
def made(request: pytest.FixtureRequest) -> Published:
    return network(request.param)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """``model.onnx`` of v1 and of v2."""
    folders = {version: tmp_path_factory.mktemp(f"export{version}") for version in (1, 2)}
    for version, folder in folders.items():
        export(version, folder)
    return {version: folder / "model.onnx" for version, folder in folders.items()}


@pytest.fixture
def folder(tmp_path: Path, pieces: bytes) -> Path:
    """A folder whose name says nothing, with its tokenizer and, as both are narrower than DeBERTa-v3, a config."""
    write_tokenizer(tmp_path / "x", pieces)
    return tmp_path / "x"


def logits(stage: Stage, texts: list[str]) -> np.ndarray:
    """All logits of texts that fit a window each, scored together: [texts, 1 + 7]."""
    windows = [window for text in texts for window in stage.encode(text).windows]
    assert len(windows) == len(texts)
    return np.array([[score.unsafe, *score.labels] for score in stage.score(windows)])


def expected(made: Published, pieces: bytes, texts: list[str]) -> np.ndarray:
    binary, categories = readme(made, SentencePieceProcessor(model_proto=pieces), texts)
    return torch.cat([binary.reshape(-1, 1), categories], 1).numpy()


def check_conformance(stage: Stage, made: Published, pieces: bytes) -> None:
    """Compares a stage with the README's code: batch with batch, single with single, and both with each other."""
    assert isinstance(stage, Stage)
    assert stage.info.labels == TINYSAFE_CATEGORIES
    assert stage.info.window_tokens == 512
    texts = [*TEXTS, " ".join(WORDS * 5)]
    reference = expected(made, pieces, texts)
    assert np.ptp(reference, axis=0).min() > 0.05  # the texts differ, so that agreement means something
    batch = logits(stage, texts)
    alone = np.concatenate([logits(stage, [text]) for text in texts])
    one_by_one = np.concatenate([expected(made, pieces, [text]) for text in texts])
    assert np.abs(batch - reference).max() < TOLERANCE
    assert np.abs(alone - one_by_one).max() < TOLERANCE
    assert np.abs(batch - alone).max() < TOLERANCE


@pytest.mark.parametrize("form", [bare, trainer_state, old_format, safetensors])
@pytest.mark.parametrize("configured", [True, False])
def test_scores_as_the_published_code(
    made: Published, pieces: bytes, folder: Path, form: Write, configured: bool
) -> None:
    form(made, folder)
    if configured:
        made.backbone.config.save_pretrained(folder)
    check_conformance(load_stage(folder), made, pieces)


@pytest.mark.parametrize("version", [1, 2])
def test_an_export_scores_as_the_published_code(
    version: int, pieces: bytes, folder: Path, exports: dict[int, Path]
) -> None:
    shutil.copy(exports[version], folder)
    stage = load_stage(folder)
    assert (stage.info.name, stage.info.runtime) == ("tinysafe-onnx", "onnxruntime")
    check_conformance(stage, network(version), pieces)
    with pytest.raises(ModelError, match=r"model\.onnx only"):
        load_stage(folder, dtype="bfloat16")


def test_an_export_runs_without_torch(folder: Path, exports: dict[int, Path]) -> None:
    shutil.copy(exports[1], folder)
    program = (
        "import sys; from stages.registry import load_stage; stage = load_stage(sys.argv[1]);"
        "stage.score(stage.encode('a letter').windows);"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_version_shows_in_the_keys(made: Published, folder: Path) -> None:
    safetensors(made, folder)
    version = 1 if isinstance(made.binary_head, torch.nn.Sequential) else 2
    assert recognise(folder).name == f"tinysafe-v{version}"


def test_every_file_is_hashed(made: Published, folder: Path) -> None:
    safetensors(made, folder)
    bare(made, folder)
    info = load_stage(folder).info
    assert set(info.files) == {"model.safetensors", "model.pt", "spm.model", "tokenizer_config.json"}
    assert info.files == {name: file_hash(folder / name) for name in info.files}
    assert info.revision == revision_of(info.files)
    assert info.runtime == "torch-float32"


def test_safetensors_come_before_a_pickle(pieces: bytes, folder: Path) -> None:
    preferred, other = network(2), network(2)
    with torch.no_grad():
        other.binary_head.bias += 3.0
    safetensors(preferred, folder)
    bare(other, folder)
    assert np.abs(logits(load_stage(folder), [TEXTS[0]]) - expected(preferred, pieces, [TEXTS[0]])).max() < TOLERANCE


def test_bfloat16_is_near(made: Published, pieces: bytes, folder: Path) -> None:
    safetensors(made, folder)
    stage = load_stage(folder, dtype="bfloat16")
    assert stage.info.runtime == "torch-bfloat16"
    reference = expected(made, pieces, list(TEXTS))
    assert np.abs(logits(stage, list(TEXTS)) - reference).max() < 0.1 * np.ptp(reference)


def test_float16_is_not_offered(folder: Path) -> None:
    safetensors(network(2), folder)
    with pytest.raises(ModelError, match="float16"):
        load_stage(folder, dtype="float16")


def test_a_long_text_becomes_windows_of_512(made: Published, pieces: bytes, folder: Path) -> None:
    safetensors(made, folder)
    stage = load_stage(folder)
    text = " ".join(WORDS * 20)
    encoding = stage.encode(text)
    assert len(encoding.windows) > 1
    assert {len(window) for window in encoding.windows} == {512}
    assert encoding.windows[0].ids == (1, *SentencePieceProcessor(model_proto=pieces).encode(text)[:510], 2)
    assert encoding.windows[-1].end == len(text)
    first = stage.score(encoding.windows)[0]
    assert abs(first.unsafe - expected(made, pieces, [text])[0, 0]) < TOLERANCE  # the README cuts off at 512


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "x"))


def whole_module(folder: Path) -> None:
    torch.save(network(2), folder / "model.pt")


def code(folder: Path) -> None:
    torch.save(network(2).state_dict() | {"x": Malice(folder / "ran")}, folder / "model.pt")


def code_in_protocol_4(folder: Path) -> None:
    state = network(2).state_dict() | {"x": Malice(folder / "ran")}
    torch.save(state, folder / "model.pt", pickle_protocol=4)


def numpy_scalars(folder: Path) -> None:
    state = {"model_state_dict": network(1).state_dict(), "val_metrics": {"f1": np.float64(0.5)}}
    torch.save(state, folder / "best_model.pt")


def cut_off(name: str, form: Write) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        form(network(2), folder)
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    return spoil


def no_tokenizer(folder: Path) -> None:
    safetensors(network(1), folder)
    (folder / "spm.model").unlink()


def broken_tokenizer(folder: Path) -> None:
    safetensors(network(1), folder)
    (folder / "spm.model").write_bytes(b"no model")


def lower_cased_tokenizer(folder: Path) -> None:
    safetensors(network(1), folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')


def larger_tokenizer(folder: Path) -> None:
    smaller = network(1)
    state = smaller.state_dict()
    name = "backbone.embeddings.word_embeddings.weight"
    save_file(state | {name: state[name][:100].clone()}, folder / "model.safetensors")


def other_config(folder: Path) -> None:
    safetensors(network(1), folder)
    config(2).save_pretrained(folder)


def other_kind_of_config(folder: Path) -> None:
    safetensors(network(1), folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')


def missing_layer(folder: Path) -> None:
    state = network(1).state_dict()
    kept = {name: tensor for name, tensor in state.items() if "layer.1.output" not in name}
    save_file(kept, folder / "model.safetensors")


def six_categories(folder: Path) -> None:
    state = network(2).state_dict()
    state["category_head.weight"] = state["category_head.weight"][:6].clone()
    state["category_head.bias"] = state["category_head.bias"][:6].clone()
    save_file(state, folder / "model.safetensors")


def not_a_model(folder: Path) -> None:
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (whole_module, r"model\.pt: pickled code \(tests"),
        (code, r"model\.pt: pickled code \(.*open\)"),
        (code_in_protocol_4, r"model\.pt: pickled in protocol 4"),
        (numpy_scalars, r"best_model\.pt: numpy values"),
        (cut_off("model.pt", bare), r"model\.pt"),
        (cut_off("model.pt", old_format), r"model\.pt"),
        (cut_off("model.safetensors", safetensors), r"model\.safetensors.*cut off"),
        (no_tokenizer, "no tokenizer"),
        (broken_tokenizer, r"spm\.model"),
        (lower_cased_tokenizer, r"tokenizer_config\.json: do_lower_case"),
        (larger_tokenizer, r"model\.safetensors: embeddings for 100 tokens"),
        (other_config, r"model\.safetensors"),
        (other_kind_of_config, r"config\.json: model_type 'bert'"),
        (missing_layer, r"model\.safetensors: .*layer\.1\.output"),
        (six_categories, r"model\.safetensors: .*category_head"),
        (not_a_model, "no model folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_folder_is_refused_in_one_line(spoil: Callable[[Path], None], named: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=named) as caught:
        load_stage(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


def test_a_cut_off_export_is_refused(folder: Path, exports: dict[int, Path]) -> None:
    (folder / "model.onnx").write_bytes(exports[1].read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"model\.onnx") as caught:
        load_stage(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_family_is_refused(folder: Path) -> None:
    safetensors(network(1), folder)
    (folder / "spm.model").unlink()
    (folder / "tokenizer_config.json").unlink()
    embedded = Path(__file__).parents[2] / "stages/weights/tinysafe/tokenizer.json"
    shutil.copy(embedded, folder / "tokenizer.json")
    with pytest.raises(ModelError, match=r"tokenizer\.json: a WordPiece tokenizer"):
        load_stage(folder)
