"""OpenAI's own client, pointed at the server: `moderations.create` just works, and errors are its own classes."""

import openai
import pytest

from cascade.gateways.openai import SOURCES
from cascade.limits import Limits
from cascade.serve import tokens
from cascade.serve.admission import AdmissionSettings
from cascade.serve.identity import Scope
from cascade.serve.security import Security
from stages.taxonomy import HAZARD_SLUGS, TINYSAFE_CATEGORIES
from tests.fakes import FakeStage, fake_policy
from tests.gateways.asking import Gateway
from tests.gateways.conftest import STRICT

CATEGORIES = {
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
}  # fmt: skip
UNSCORED = {"self-harm/instructions", "self-harm/intent", "violence/graphic"}


def client_of(server, **options):
    return openai.OpenAI(base_url=f"http://{server.http}/v1", **{"api_key": "any", "max_retries": 0} | options)


@pytest.fixture(scope="module")
def gateway():
    policies = [fake_policy(), fake_policy(STRICT, name="strict")]
    server = Gateway(limits=Limits(max_text_bytes=10_000, max_batch=4), policies=policies)
    yield server
    server.stop()


@pytest.fixture
def client(gateway):
    with client_of(gateway) as client:
        yield client


def flags(result):
    return {name for name, flagged in result.categories.model_dump(by_alias=True).items() if flagged}


def test_a_string_a_list_and_parts_are_judged(client):
    found = client.moderations.create(input="a terrible hate thing", model="omni-moderation-latest")
    assert (found.model, found.id[:5], len(found.results)) == ("omni-moderation-latest", "modr-", 1)
    (result,) = found.results
    assert (result.flagged, flags(result)) == (True, {"hate"})
    assert result.category_scores.hate > 0.9
    assert result.cascade["verdict"] == "VERDICT_UNSAFE"
    assert result.cascade["requestId"] == found.id
    several = client.moderations.create(input=["a walk", "a terrible hate thing", "a ride"])
    assert [one.flagged for one in several.results] == [False, True, False]
    assert several.model == "cascade"
    parts = client.moderations.create(
        input=[{"type": "text", "text": "a terrible"}, {"type": "text", "text": "hate thing"}]
    )
    assert [one.flagged for one in parts.results] == [True], "parts are one content"
    assert len(parts.results[0].cascade["spans"]) == 0


def test_a_header_names_the_policy(gateway):
    for policy, flagged in (("strict", True), ("default", False), ("", False)):
        with client_of(gateway, default_headers={"x-cascade-policy": policy}) as client:
            assert client.moderations.create(input="a walk").results[0].flagged is flagged
            several = client.moderations.create(input=["a walk", "a ride"]).results
            assert [one.flagged for one in several] == [flagged] * 2
    with client_of(gateway) as client:
        for given in ("a walk", ["a walk", "a ride"]):
            with pytest.raises(openai.NotFoundError) as caught:
                client.moderations.create(input=given, extra_headers={"x-cascade-policy": "none"})
            assert (caught.value.type, caught.value.code) == ("invalid_request_error", "not_found")
            assert "policy" in caught.value.message
        assert client.moderations.create(input="a walk").results[0].flagged is False


async def test_the_asynchronous_client_works_too(gateway):
    async with openai.AsyncOpenAI(base_url=f"http://{gateway.http}/v1", api_key="any", max_retries=0) as client:
        found = await client.moderations.create(input="a walk")
        assert found.results[0].flagged is False
        assert [model.id async for model in client.models.list()] == ["fake-tinysafe", "fake-hazard"]


def test_all_13_categories_are_always_there(client):
    for text in ("a walk", "a terrible hate thing", "unsure"):
        (result,) = client.moderations.create(input=text).results
        for group in (result.categories, result.category_scores, result.category_applied_input_types):
            assert set(group.model_dump(by_alias=True)) == CATEGORIES
        scored = result.category_applied_input_types.model_dump(by_alias=True)
        assert {tuple(kinds) for name, kinds in scored.items() if name in UNSCORED} == {()}
        assert scored["hate"] == ["text"]
        scores = result.category_scores.model_dump(by_alias=True)
        assert all(0 <= score <= 1 for score in scores.values())
        assert {scores[name] for name, kinds in scored.items() if not kinds} == {0.0}
    assert scored["sexual/minors"] == (["text"] if len(result.cascade["stages"]) == 2 else [])


def test_every_hazard_and_category_of_ours_reaches_one_of_theirs():
    assert set(SOURCES) == CATEGORIES
    assert {slug for slugs, _ in SOURCES.values() for slug in slugs} == set(HAZARD_SLUGS)
    assert {name for _, names in SOURCES.values() for name in names} == set(TINYSAFE_CATEGORIES)


@pytest.mark.parametrize("slug", HAZARD_SLUGS)
def test_a_flagged_hazard_flags_its_categories(client, slug):
    (result,) = client.moderations.create(input=f"a terrible {slug} thing").results
    assert [hazard["slug"] for hazard in result.cascade["hazards"] if hazard["flagged"]] == [slug]
    assert flags(result) == {name for name, (slugs, _) in SOURCES.items() if slug in slugs}


def test_threats_are_flagged_where_both_halves_are(client):
    (result,) = client.moderations.create(input="a terrible hate violent_crimes defamation thing").results
    assert flags(result) == {"hate", "violence", "harassment", "hate/threatening", "harassment/threatening"}
    scores = result.category_scores
    assert scores.hate_threatening == min(scores.hate, scores.violence)


def test_unsafe_without_a_named_hazard_flags_the_highest_score():
    server = Gateway(alone=True)
    try:
        with client_of(server) as client:
            (result,) = client.moderations.create(input="a terrible sexual thing").results
        assert (result.flagged, flags(result)) == (True, {"sexual"})
        assert result.category_applied_input_types.illicit_violent == [], "only stage 2 knows"
    finally:
        server.stop()


def test_what_no_stage_could_score_is_flagged_without_a_category():
    failing = FakeStage(fail=lambda windows: RuntimeError("gone"))
    server = Gateway(stage1=failing, alone=True)
    try:
        with client_of(server) as client:
            (result,) = client.moderations.create(input="a walk").results
        assert (result.flagged, flags(result), result.cascade["degraded"]) == (True, set(), True)
        assert set(result.category_scores.model_dump().values()) == {0.0}
    finally:
        server.stop()


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
BAD = {
    "no input": ({}, "input"),
    "an empty list": ({"input": []}, "input"),
    "an empty string": ({"input": ""}, "input"),
    "one empty string": ({"input": ["a walk", ""]}, "input"),
    "a number": ({"input": 7}, "input"),
    "tokens": ({"input": [1, 2]}, "input[0]"),
    "strings and parts": ({"input": ["a walk", {"type": "text", "text": "x"}]}, "input[0]"),
    "an image": ({"input": [{"type": "text", "text": "see"}, IMAGE]}, "input[1].type"),
    "no text": ({"input": [{"type": "text"}]}, "input[0].text"),
    "more in a part": ({"input": [{"type": "text", "text": "x", "url": "y"}]}, "input[0].url"),
    "a part of another type": ({"input": [{"type": "sound"}]}, "input[0]"),
    "too many": ({"input": ["a walk"] * 5}, "input"),
    "no name": ({"input": "a walk", "model": 7}, "model"),
    "an unknown argument": ({"input": "a walk", "stream": True}, "stream"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_their_bad_request(client, what):
    body, param = BAD[what]
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/moderations", body=body, cast_to=object)
    assert (caught.value.type, caught.value.param, caught.value.code) == (
        "invalid_request_error", param, "invalid_request",
    )  # fmt: skip
    assert caught.value.message
    assert client.moderations.create(input="a walk").results[0].flagged is False


FORM = {"message", "type", "param", "code"}
WRONG = {
    "no JSON": ("POST", "/v1/moderations", b"{", None, 400, "invalid_request"),
    "another type": ("POST", "/v1/moderations", b'{"input": "x"}', "text/plain", 400, "invalid_request"),
    "another method": ("GET", "/v1/moderations", None, None, 405, None),
    "another method of the models": ("POST", "/v1/models", b"{}", None, 405, None),
    "nothing below": ("POST", "/v1/moderations/x", b'{"input": "x"}', None, 404, None),
    "one model": ("GET", "/v1/models/fake-tinysafe", None, None, 404, None),
}


@pytest.mark.parametrize("what", WRONG)
def test_whatever_goes_wrong_on_their_paths_has_their_form(gateway, what):
    method, path, body, kind, status, code = WRONG[what]
    ask = gateway.asking()
    found = ask(path, body, {"content-type": kind} if kind else None, method)
    assert (found.status, set(found.json), set(found.json["error"])) == (status, {"error"}, FORM)
    assert (found.json["error"]["type"], found.json["error"]["code"]) == ("invalid_request_error", code)
    assert found.json["error"]["message"]
    assert ask("/v1/moderations", {"input": "a walk"}).status == 200, "on the same connection"


def test_too_long_a_text_is_not_tried_again(gateway):
    with client_of(gateway, max_retries=5) as client, pytest.raises(openai.APIStatusError) as caught:
        client.moderations.create(input="word " * 3000)
    assert (caught.value.status_code, caught.value.code) == (413, "limit_exceeded")
    with client_of(gateway) as client, pytest.raises(openai.APIStatusError) as caught:
        client.moderations.create(input=["a walk", "word " * 3000])
    assert caught.value.status_code == 413
    assert "input[1]" in caught.value.message


def test_their_other_errors(gateway, tmp_path):
    path = tmp_path / "tokens"
    made = {
        name: tokens.new([scope], None, None, None) for name, scope in (("one", Scope.CHECK), ("two", Scope.POLICY))
    }
    path.write_text("".join(f"{entry.line(name)}\n" for name, (_, entry) in made.items()))
    server = Gateway(Security(token_file=path))
    try:
        for key, error, code in (("wrong", openai.AuthenticationError, "invalid_api_key"),
                                 (made["two"][0], openai.PermissionDeniedError, "permission_denied")):  # fmt: skip
            with client_of(server, api_key=key) as client, pytest.raises(error) as caught:
                client.moderations.create(input="a walk")
            assert caught.value.code == code
        with client_of(server, api_key=made["one"][0]) as client:
            assert client.moderations.create(input="a walk").results
    finally:
        server.stop()
    with client_of(gateway) as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "hello"}])


@pytest.fixture
def rated():
    """Starts servers that take so many contents a second."""
    started = []

    def rated(rate):
        started.append(Gateway(admission=AdmissionSettings(rate=rate)))
        return started[-1]

    yield rated
    for server in started:
        server.stop()


def test_who_comes_too_often_is_told_when_to_come_again(rated):
    with client_of(rated(0.001)) as client:
        assert client.moderations.create(input="a walk").results
        with pytest.raises(openai.RateLimitError) as caught:
            client.moderations.create(input="a walk")
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after-ms"]) >= 1


def test_who_waits_as_it_is_told_is_answered(rated):
    with client_of(rated(0.5), max_retries=5) as client:
        assert [client.moderations.create(input="a walk").results[0].flagged for _ in range(3)] == [False] * 3
