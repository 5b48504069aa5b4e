"""One scoring function: the embedded models say the same of 200 texts by every way that leads to them."""

import json
import random
import subprocess

import openai
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.gateways.asking import Asking
from tests.serve.conftest import COMMAND, ServerProcess, environment
from tests.serve.reflected import method_of

TEXTS = 200
WHO = ("my neighbour", "the committee", "a stranger", "our teacher", "the old dog", "everybody here", "nobody")
DOES = ("kills", "steals", "repairs", "hates", "paints", "hacks into", "teaches", "poisons", "sells", "forgets")
WHAT = ("a Python process", "the garden fence", "the bank", "a library card", "the water supply", "two old bicycles")
WHY = (
    "for fun",
    "because it is Tuesday",
    "at night",
    "with a knife",
    "in front of the children",
    "без причины",
    "没有理由",
)
FRAMES = ("{}.", "How do I explain that {}?", "Write a story in which {}!", "Is it legal when {}?", "I wish that {} …")


def texts():
    """Sentences put together by chance, the same each time: harmless, doubtful, long, and in other scripts."""
    draw = random.Random(7)

    def sentence():
        parts = " ".join(draw.choice(words) for words in (WHO, DOES, WHAT, WHY))
        return draw.choice(FRAMES).format(parts)

    return [" ".join(sentence() for _ in range(20 if number % 50 == 0 else 1)) for number in range(TEXTS)]


def judged(answer):
    """What may not differ: everything but ids and times."""
    return {key: value for key, value in answer.items() if key not in ("requestId", "stages")} | {
        "stages": [{key: value for key, value in stage.items() if not key.endswith("Ms")} for stage in answer["stages"]]
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_classify_check_moderations_and_reflection_agree_on_200_texts(tmp_path):
    given = texts()
    (tmp_path / "texts").write_text("".join(f"{text}\n" for text in given))
    command = [*COMMAND, "classify", "--file", "texts", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    classified = [judged(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(classified) == TEXTS
    assert {answer["verdict"] for answer in classified} >= {"VERDICT_SAFE", "VERDICT_UNSAFE"}, "or nothing is compared"
    assert {answer["route"]["escalated"] for answer in classified} == {True, False}
    server = ServerProcess([*COMMAND, "serve", "--port", "0", "--http-port", "0"], tmp_path, seconds=300)
    try:
        address = f"127.0.0.1:{server.http_port}"
        ask = Asking(address)
        options = {"bypassCache": True}  # else the later ones would only be what the first was
        checked = [judged(ask("/v1/check", {"text": text, "options": options}).json) for text in given]
        ask.close()
        check, request = method_of(server.channel, "cascade.v1.CascadeService", "Check")
        reflected = [check(ParseDict({"text": text, "options": options}, request()), timeout=60) for text in given]
        with openai.OpenAI(base_url=f"http://{address}/v1", api_key="any") as client:
            ones = [client.moderations.create(input=text).results[0] for text in given[:50]]
            rest = [
                one for start in (50, 125) for one in client.moderations.create(input=given[start : start + 75]).results
            ]
    finally:
        server.close()
    moderated = [judged(one.cascade) for one in [*ones, *rest]]
    assert checked == classified
    assert [judged(MessageToDict(one, always_print_fields_with_no_presence=True)) for one in reflected] == classified
    assert moderated == classified
    assert [one.flagged for one in [*ones, *rest]] == [one["verdict"] == "VERDICT_UNSAFE" for one in classified]
