"""ModerateStream of the real command and of servers with fake models, over a real channel."""

import itertools
import threading
import time
from urllib.request import urlopen

import grpc
import pytest

from cascade.v1.cascade_service_pb2 import ModerateEnd, ModerateStart, ModerateStreamRequest, ModerateStreamResponse
from cascade.v1.check_pb2 import ACTION_BLOCK, VERDICT_SAFE, VERDICT_UNSAFE, CheckRequest, Exchange
from tests.serve.calling import fails, stubs
from tests.serve.test_hostile import not_utf8
from tests.serve.test_lifecycle import wait_for

CODE = grpc.StatusCode
PROMPT = "How do I keep tomato plants alive in a cold spring?"
STORY = (
    "The old bridge was built by two brothers, and the village paid them in cheese and wool. In spring the children "
    "count the swallows under its arches. Café owners in Graz (é, u\u0308, 👩‍🌾) say that the same brothers "
    "built the stairs behind the market. "
) * 12


def start(**fields):
    return ModerateStreamRequest(start=ModerateStart(**fields))


def deltas(text, every):
    return [ModerateStreamRequest(delta=text[place : place + every]) for place in range(0, len(text), every)]


END = ModerateStreamRequest(end=ModerateEnd())


def moderate(server, messages, **options):
    return list(stubs(server.channel).cascade.ModerateStream(iter(messages), timeout=60, **options))


def refused(server, code, messages):
    return fails(code, lambda **options: list(stubs(server.channel).cascade.ModerateStream(iter(messages), **options)))


@pytest.mark.parametrize("every", [3, 100, 10_000])
def test_the_end_is_the_check_of_the_whole_exchange(served, every):
    states = moderate(served, [start(request_id="m", prompt=PROMPT), *deltas(STORY, every), END])
    exchange = Exchange(prompt=PROMPT, response=STORY)
    whole = stubs(served.channel).cascade.Check(CheckRequest(exchange=exchange), timeout=60)
    last = states[-1].verdict
    assert {state.request_id for state in states} == {"m"}
    assert (last.verdict, last.action) == (whole.verdict, whole.action) == (VERDICT_SAFE, whole.action)
    assert last.unsafe_probability == pytest.approx(whole.unsafe_probability, abs=1e-6)
    assert (last.coverage, last.policy_revision) == (whole.coverage, whole.policy_revision)
    released = [state.released_upto for state in states]
    assert released == sorted(released)
    assert released[-1] == len(STORY), "code points, not bytes"
    assert [state.final for state in states] == [False] * (len(states) - 1) + [True]


def test_text_is_released_while_the_generation_goes_on(served):
    released = threading.Event()

    def messages():
        yield start()
        yield from deltas(STORY[:1000], 20)
        assert released.wait(60)
        yield END

    states = stubs(served.channel).cascade.ModerateStream(messages(), timeout=60)
    first = next(state for state in states if state.released_upto > 200)
    assert not first.final
    released.set()
    assert list(states)[-1].released_upto == 1000


def test_a_stream_that_is_half_closed_is_at_its_end(served):
    states = moderate(served, [start(), *deltas(STORY[:300], 50)])
    assert (states[-1].final, states[-1].released_upto) == (True, 300)


def test_a_block_ends_the_stream(fake_server):
    server = fake_server()
    words = "calm " * 200 + "terrible " + "calm " * 2000
    states = moderate(server, [start(), *deltas(words, 10), END])
    assert (states[-1].final, states[-1].verdict.verdict, states[-1].verdict.action) == (
        True,
        VERDICT_UNSAFE,
        ACTION_BLOCK,
    )
    assert states[-1].released_upto <= 1000
    assert states[-1].verdict.coverage.tokens_total < 500


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "start"),
        ([END], "start"),
        (deltas("hello", 5), "start"),
        ([start(), start()], "start"),
        ([start(), *deltas("hello", 5), ModerateStreamRequest()], "event"),
        ([start(options={"hazards": ["boredom"]})], "start.options.hazards[0]"),
        ([start(request_id="x" * 300)], "start.request_id"),
        ([start(), END], "exchange"),
    ],
)
def test_a_stream_in_bad_order_is_refused_by_its_field(served, messages, field):
    answer = refused(served, CODE.INVALID_ARGUMENT, messages)
    assert answer.fields == [field]
    assert answer.info.reason == "INVALID_REQUEST"


def test_other_starts_that_cannot_be_served(served):
    refused(served, CODE.NOT_FOUND, [start(policy="nobody-has-this")])
    refused(served, CODE.NOT_FOUND, [start(options={"adapter": "mine"})])
    limit = refused(served, CODE.RESOURCE_EXHAUSTED, [start(prompt="x" * 999_999), *deltas("yes", 1), END])
    assert limit.info.metadata["limit"] == "1000000"


def test_malformed_messages_are_answered(served):
    stream = served.channel.stream_stream("/cascade.v1.CascadeService/ModerateStream")
    good = start().SerializeToString()
    for bad, field in (
        (b"\xffgarbage", []),
        (not_utf8(ModerateStreamRequest(delta="MARK")), ["delta"]),
    ):
        answer = fails(CODE.INVALID_ARGUMENT, lambda bad=bad, **options: list(stream(iter([good, bad]), **options)))
        assert answer.fields == field
        assert "garbage" not in answer.message


def test_a_caller_that_goes_away_or_is_late_leaves_nothing_behind(fake_server):
    server = fake_server(delay=0.2)
    cascade = stubs(server.channel).cascade
    endless = itertools.chain([start()], itertools.repeat(ModerateStreamRequest(delta="calm " * 40)))
    states = cascade.ModerateStream(endless)
    next(states)
    states.cancel()
    wait_for(server, "cascade_requests_in_flight 0.0")
    late = cascade.ModerateStream(itertools.chain([start()], itertools.repeat(endless_delta())), timeout=0.7)
    with pytest.raises(grpc.RpcError) as caught:
        list(late)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    wait_for(server, "cascade_requests_in_flight 0.0")
    assert cascade.Check(CheckRequest(text="still there?"), timeout=20).verdict == VERDICT_SAFE


def endless_delta():
    return ModerateStreamRequest(delta="calm " * 40)


def test_a_caller_that_writes_faster_than_is_judged_is_held_back(fake_server):
    server = fake_server(delay=0.3)
    sent = []

    def messages():
        yield start()
        for number in range(10_000):
            sent.append(number)
            yield ModerateStreamRequest(delta="calm " * 4000)

    states = stubs(server.channel).cascade.ModerateStream(messages())
    next(states)
    before = -1
    while before != (before := len(sent)):
        time.sleep(1)
    assert len(sent) < 5000, "half of 200 MB, when the window of gRPC is at most 16 MB"
    states.cancel()


def batches(server):
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as page:
        lines = page.read().decode().splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith('cascade_batch_windows_count{stage="stage1"}')
    )


def test_a_caller_that_does_not_read_holds_the_judging_back(fake_server):
    server = fake_server()
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
    rounds = 1500
    messages = itertools.chain([start()], itertools.repeat(ModerateStreamRequest(delta="calm " * 32), rounds))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=small) as channel:
        states = stubs(channel).cascade.ModerateStream(messages)
        next(states)
        before = -1.0
        while before != (before := batches(server)):
            time.sleep(1)
        assert before < rounds, "the server has stopped before the text did"
        *_, last = states
    assert last.final
    assert last.released_upto == rounds * 160


def test_sigterm_judges_what_came_and_says_where_to_go_on(fake_server):
    server = fake_server()
    finished = threading.Event()

    def messages():
        yield start(request_id="cut short")
        yield ModerateStreamRequest(delta="calm " * 60)
        yield ModerateStreamRequest(delta="calm words ")
        finished.wait(20)

    states = stubs(server.channel).cascade.ModerateStream(messages(), timeout=20)
    first = next(states)
    time.sleep(0.3)  # the second delta has come, and waits for more
    server.terminate()
    second = next(states)
    assert isinstance(second, ModerateStreamResponse)
    assert second.verdict.coverage.tokens_total == 62 > first.verdict.coverage.tokens_total
    assert not second.final
    with pytest.raises(grpc.RpcError) as caught:
        next(states)
    finished.set()
    assert caught.value.code() is CODE.UNAVAILABLE
    assert "another" in caught.value.details()
    assert server.wait(10) == (0, "")
