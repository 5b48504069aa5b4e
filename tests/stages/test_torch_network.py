"""The torch runtime: order, buckets, padding, a memory that does not suffice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.encoder import NetworkStage
from stages.errors import DependencyError, ModelError, StageError
from stages.runtime.torch import TorchNetwork, choose_dtype, open_device
from stages.stage import Calibration, Encoding, ModelInfo, Window

PAD = 7


class Sums(nn.Module):
    """Unsafe: the sum of the real ids; labels: their number and the batch's rows. ``room`` is a memory in tokens."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.room = room
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.is_inference_mode_enabled()
        assert (input_ids[attention_mask == 0] == PAD).all()
        self.shapes.append(tuple(input_ids.shape))
        if input_ids.numel() > self.room:
            raise torch.OutOfMemoryError("no room")
        total = (input_ids * attention_mask).sum(1) * self.scale
        count = attention_mask.sum(1).float()
        return total, torch.stack([count, torch.full_like(count, len(count))], 1)


def windows(lengths: Sequence[int]) -> list[Window]:
    return [Window(tuple(range(1, length + 1)), 0, length) for length in lengths]


LENGTHS = [3, 200, 64, 65, 5, 130, 3, 500, 64, 1]


def check(network: TorchNetwork) -> None:
    unsafe, labels = network.run(windows(LENGTHS))
    assert unsafe.tolist() == [length * (length + 1) / 2 for length in LENGTHS]
    assert labels[:, 0].tolist() == LENGTHS


def test_scores_stand_in_order_and_lengths_that_are_alike_run_together() -> None:
    module = Sums()
    network = TorchNetwork(module, pad_id=PAD)
    check(network)
    assert sorted(module.shapes) == [(1, 65), (1, 130), (1, 200), (1, 500), (6, 64)]
    assert network.oom_halvings == 0
    assert not module.training


def test_a_batch_stays_within_its_tokens() -> None:
    module = Sums()
    check(TorchNetwork(module, pad_id=PAD, max_tokens=128))
    assert all(rows == 1 or rows * width <= 128 for rows, width in module.shapes)


def test_out_of_memory_halves_the_batch_and_counts() -> None:
    network = TorchNetwork(Sums(room=512), pad_id=PAD)
    unsafe, labels = network.run(windows([200] * 8))
    assert unsafe.tolist() == [20100.0] * 8
    assert labels[:, 1].max() == 2
    assert network.oom_halvings == 3  # 8 -> 4 + 4 -> 2 + 2 + 2 + 2
    check(network)


def test_one_window_too_many_for_the_memory_is_an_error_and_the_next_call_works() -> None:
    network = TorchNetwork(Sums(room=100), pad_id=PAD)
    with pytest.raises(StageError, match="does not hold one window"):
        network.run(windows([50, 101, 40]))
    assert network.run(windows([50]))[0].tolist() == [1275.0]


def test_other_failures_of_torch_are_errors_of_the_stage() -> None:
    network = TorchNetwork(nn.Embedding(3, 3), forward=lambda module, ids, mask, _: (module(ids), module(ids)))
    with pytest.raises(StageError, match="torch failed on cpu: IndexError"):
        network.run(windows([9]))


def test_forward_gets_the_windows() -> None:
    def by_adapter(module: nn.Module, ids: Tensor, mask: Tensor, batch: Sequence[Window]) -> tuple[Tensor, Tensor]:
        return torch.tensor([float(window.adapter == "b") for window in batch]), torch.zeros(len(batch), 0)

    network = TorchNetwork(Sums(), forward=by_adapter)
    mixed = [Window((1,), 0, 1, adapter) for adapter in ("a", "b", "", "b")]
    unsafe, labels = network.run(mixed)
    assert unsafe.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert labels.shape == (4, 0)


def test_bfloat16_on_the_cpu_only_if_asked_for() -> None:
    assert TorchNetwork(Sums()).runtime == "torch-float32"
    network = TorchNetwork(Sums(), dtype="bfloat16")
    assert network.runtime == "torch-bfloat16"
    assert network.run(windows([3]))[0].dtype == np.float32
    with pytest.raises(ModelError, match="float16"):
        choose_dtype("float16", torch.device("cpu"))


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "mps"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DependencyError, match=name):
        open_device(name)


class Letters:
    """A tokenizer: the text is one window, each letter a token."""

    def encode(self, text: str) -> Encoding:
        return Encoding((Window(tuple(map(ord, text)), 0, len(text)),), len(text))


def stage(module: nn.Module, **more: object) -> NetworkStage:
    info = ModelInfo("toy", "toy", "r", {}, "toy@1", ("count", "rows"), "cpu", "torch", "none", 9, **more)  # type: ignore[arg-type]
    return NetworkStage(info, Calibration(), Letters(), TorchNetwork(module))


def test_a_stage_refuses_an_adapter_that_it_does_not_have() -> None:
    one = stage(Sums(), adapters=("tenant",))
    assert len(one.score([Window((1,), 0, 1), Window((1,), 0, 1, "tenant")])) == 2
    with pytest.raises(ModelError, match="no adapter 'other'"):
        one.score([Window((1,), 0, 1, "other")])


def test_a_stage_refuses_a_score_that_is_not_finite() -> None:
    module = Sums()
    with torch.no_grad():
        module.scale.fill_(float("nan"))
    one = stage(module)
    with pytest.raises(StageError, match="toy: a score is not finite"):
        one.score(one.encode("abc").windows)
    assert one.score([]) == []
