"""Where texts are cut: short ones on the event loop, longer ones beside it, and only once if once will do."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from cascade.scoring import SHORT, same_windows
from cascade.v1.check_pb2 import CheckRequest
from stages.registry import load_stage
from stages.stage import Encoding
from tests.fakes import FakeStage, fake_pipeline


class Reader(FakeStage):
    """A stage that tells on which thread it cut which text, and cuts long ones only when it is let go."""

    def __init__(self, kind: str = "tinysafe", cut: str | None = None) -> None:
        super().__init__(kind)
        self.cuts: list[tuple[int, str]] = []
        self.go, self.entered = threading.Event(), threading.Semaphore(0)
        self.tokenizer = SimpleNamespace(cut=cut)

    def encode(self, text: str) -> Encoding:
        self.cuts.append((threading.get_ident(), text))
        if len(text) > SHORT:
            self.entered.release()
            assert self.go.wait(20)
        return super().encode(text)


async def test_many_medium_texts_do_not_hold_up_a_short_one() -> None:
    stage = Reader()
    pipeline = fake_pipeline(stage)
    medium = [f"{number} " + "word " * (SHORT // 5) for number in range(4)]
    tasks = [asyncio.create_task(pipeline.check(CheckRequest(text=text))) for text in medium]
    for _ in medium:
        assert await asyncio.to_thread(stage.entered.acquire, timeout=20)
    assert (await pipeline.check(CheckRequest(text="a short one"))).verdict == 1, "while all the others are being cut"
    assert not any(task.done() for task in tasks)
    stage.go.set()
    assert [response.verdict for response in await asyncio.gather(*tasks)] == [1] * len(medium)
    here = threading.get_ident()
    assert {text for thread, text in stage.cuts if thread == here} == {"a short one"}
    await pipeline.close()


@pytest.mark.parametrize(("cuts", "read"), [(("v", "v"), 0), (("v", "w"), 1), ((None, None), 1)])
async def test_stage_2_reads_the_ids_of_stage_1_where_the_vocabularies_match(
    cuts: tuple[str | None, str | None], read: int
) -> None:
    stage1, stage2 = Reader(cut=cuts[0]), Reader("hazard", cut=cuts[1])
    pipeline = fake_pipeline(stage1, stage2)
    response = await pipeline.check(CheckRequest(text="a bad day"))
    assert [report.name for report in response.stages] == ["stage1", "stage2"]
    assert (len(stage1.cuts), len(stage2.cuts)) == (1, read)
    assert [window.ids for window in stage2.calls[0]] == [window.ids for window in stage1.calls[0]]
    await pipeline.close()


def test_the_embedded_stages_have_vocabularies_of_their_own() -> None:
    stage1, stage2 = load_stage("tinysafe"), load_stage("hazard")
    assert same_windows(stage1, stage1)
    assert not same_windows(stage1, stage2)
