"""What a process tells of its stages when others take their places."""

from __future__ import annotations

from cascade.pipeline import Pipeline
from cascade.serve.config import Setup
from cascade.serve.participant import LocalParticipant
from tests.fakes import fake_pipeline, fake_policy


async def test_a_new_stage_2_serves_whatever_was_told_of_the_one_before() -> None:
    told: list[bool] = []

    async def on_stage2(serving: bool) -> None:
        told.append(serving)

    def load(**given: object) -> Pipeline:
        return fake_pipeline(policies=[fake_policy()])

    participant = LocalParticipant(load, lambda pipeline: None, on_stage2, lambda address: None)
    policy = fake_policy().toml
    for stamps in ({"stage1": "a", "stage2": "a"}, {"stage1": "b", "stage2": "b"}):
        await participant.prepare(Setup((policy,), stamps))
        await participant.commit()
        await participant.settled()
    assert told == [True], "once for the second one: with the first one the server opens"
    await participant.close()
