"""Batches are chunked, picked up after a crash, paid once, and every way to fail is told apart."""

from __future__ import annotations

import json
import logging

import pytest

from tests.training.fake_batches import EXPIRED, FakeApi, errored, serving, succeeded
from training.data.llm.client import LabellerError, make_client
from training.data.llm.job import Job, Limits, Request
from training.data.llm.prices import Usage, estimate, price_of


def params(number, max_tokens=50):
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": f"text {number}"}],
    }


REQUESTS = [Request(f"r{number}", params(number)) for number in range(7)]
LIMITS = Limits(requests=3, poll_s=0)


def number_of(asked):
    return int(asked["messages"][0]["content"].split()[1])


def good(asked, _):
    return succeeded(f"answer {number_of(asked)}")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the job of REQUESTS in a fresh process's stead: a new client and a new Job each time."""

    def run_once(api, requests=REQUESTS, limits=LIMITS, sleep=lambda _: None):
        with serving(api) as address:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
            monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
            with make_client() as client:
                job = Job(client, tmp_path / "job", requests, limits, sleep)
                return job.run(), job.usage()

    return run_once


def test_answers_come_back_by_key_and_are_metered(run, tmp_path):
    api = FakeApi(good)
    api.polls_until_ended = 2
    waits = []
    replies, usage = run(api, sleep=waits.append)
    assert {key: reply.text for key, reply in replies.items()} == {f"r{n}": f"answer {n}" for n in range(7)}
    assert [len(batch["requests"]) for batch in api.batches] == [3, 3, 1]
    assert usage == Usage(700, 140)
    assert len(waits) == 6  # each batch was looked at twice before it had ended
    assert all(reply.outcome == "ok" for reply in replies.values())


def test_a_batch_is_cut_by_bytes_too(run):
    api = FakeApi(good)
    size = len(json.dumps(params(0))) + 100
    run(api, limits=Limits(requests=100, bytes=2 * size + 10, poll_s=0))
    assert [len(batch["requests"]) for batch in api.batches] == [2, 2, 2, 1]


def test_a_second_run_sends_nothing(run):
    api = FakeApi(good)
    first = run(api)
    done = len(api.requests)
    assert run(api) == first
    assert len(api.requests) == done


def test_a_crash_between_submission_and_fetch_is_picked_up(run):
    api = FakeApi(good)
    api.polls_until_ended = 1

    def die(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(api, sleep=die)
    assert len(api.batches) == 3
    replies, usage = run(api)
    assert len(api.batches) == 3
    assert len(replies) == 7
    assert usage == Usage(700, 140)


def test_a_batch_whose_submission_was_not_heard_of_is_found_again(run, tmp_path):
    api = FakeApi(good)
    api.create([{"custom_id": f"stranger-{n}", "params": params(90 + n)} for n in range(3)])  # another job's, same size
    api.drop_next_create = True
    with pytest.raises(LabellerError, match=r"cannot be reached; the same command goes on"):
        run(api)
    assert len(api.batches) == 2
    state = json.loads((tmp_path / "job/state.json").read_text())
    assert state["chunks"][0]["intent"]
    assert state["chunks"][0]["batch"] is None
    replies, _ = run(api)
    assert [len(batch["requests"]) for batch in api.batches] == [3, 3, 3, 1]  # the stranger's, and ours once each
    assert {reply.text for reply in replies.values()} == {f"answer {n}" for n in range(7)}


def test_a_submission_that_never_arrived_is_made_again(run, tmp_path):
    api = FakeApi(good)
    api.create_status = (529, "overloaded_error")
    with pytest.raises(LabellerError, match="529 overloaded_error"):
        run(api)
    assert [method for method, _ in api.requests] == ["POST"]  # no second try in silence
    api.create_status = None
    assert len(run(api)[0]) == 7


def test_lost_requests_go_into_another_round_and_rejected_ones_do_not(run):
    results = {1: errored("overloaded_error"), 2: EXPIRED, 3: errored("invalid_request_error"), 4: None}

    def answer(asked, times):
        return results.get(number_of(asked), good(asked, times)) if times == 1 else good(asked, times)

    api = FakeApi(answer)
    replies, usage = run(api)
    assert {key: reply.outcome for key, reply in replies.items() if reply.outcome != "ok"} == {"r3": "rejected"}
    assert replies["r3"].error == "invalid_request_error"
    assert sorted(number_of(each["params"]) for each in api.batches[-1]["requests"]) == [1, 2, 4]
    assert usage == Usage(600, 120)


def test_rounds_are_bounded(run):
    api = FakeApi(lambda asked, times: EXPIRED if number_of(asked) == 5 else good(asked, times))
    replies, _ = run(api)
    assert replies["r5"].outcome == "expired"
    assert sum(len(batch["requests"]) for batch in api.batches) == 7 + 2
    sent = len(api.requests)
    run(api)
    assert len(api.requests) == sent


def test_refusals_cuts_and_malformed_results_are_told_apart(run):
    odd = {
        0: succeeded("", stop_reason="refusal"),
        1: succeeded('{"unsa', stop_reason="max_tokens"),
        2: {"type": "succeeded", "message": {"content": None}},
        3: {"type": "a kind of next year"},
        4: {"type": "errored"},
    }
    replies, usage = run(FakeApi(lambda asked, times: odd.get(number_of(asked)) or good(asked, times)))
    assert [replies[f"r{n}"].outcome for n in range(6)] == [
        "refused",
        "cut",
        "malformed",
        "malformed",
        "rejected",
        "ok",
    ]
    assert usage == Usage(400, 80)  # what is refused or cut is paid for


def test_results_that_break_off_leave_nothing_half_done(run, tmp_path):
    api = FakeApi(good)
    api.cut_results = True
    with pytest.raises(LabellerError, match="broke off; the same command goes on"):
        run(api)
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["state.json"]
    api.cut_results = False
    assert len(run(api)[0]) == 7
    assert len(api.batches) == 3


def test_a_result_line_that_is_no_json_is_an_error_of_one_line(run):
    api = FakeApi(good)
    api.result_lines = lambda lines: [lines[0], "{broken SECRET-TEXT"]
    with pytest.raises(LabellerError, match=r"batch msgbatch_01: its results cannot be read") as caught:
        run(api)
    assert "SECRET" not in str(caught.value)


def test_if_everything_is_rejected_the_run_fails(run):
    with pytest.raises(LabellerError, match="rejected every request: invalid_request_error"):
        run(FakeApi(lambda *_: errored("invalid_request_error")))


def test_the_api_message_is_not_repeated(run):
    api = FakeApi(good)
    api.create_status = (400, "invalid_request_error")
    with pytest.raises(LabellerError, match="400 invalid_request_error") as caught:
        run(api)
    assert "SECRET" not in str(caught.value)


def test_another_job_in_the_same_folder_is_refused(run):
    api = FakeApi(good)
    run(api)
    with pytest.raises(LabellerError, match="holds another job"):
        run(api, requests=REQUESTS[:3])


def test_a_damaged_state_is_refused(run, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job/state.json").write_text("[]")
    with pytest.raises(LabellerError, match="not the state of a job"):
        run(FakeApi(good))


def test_batches_that_are_gone_are_named(run):
    api = FakeApi(good)
    api.polls_until_ended = 1
    with pytest.raises(ZeroDivisionError):
        run(api, sleep=lambda _: 1 / 0)
    api.batches.clear()
    with pytest.raises(LabellerError, match="404 not_found_error"):
        run(api)


def test_no_key_is_an_error(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(LabellerError, match="no ANTHROPIC_API_KEY in the environment"):
        make_client()


def test_the_client_logs_no_request(run, caplog, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_LOG", "debug")
    with caplog.at_level(logging.DEBUG):
        run(FakeApi(good))
    assert "text 3" not in caplog.text
    assert "answer 3" not in caplog.text


def test_keys_that_would_collide_are_a_bug(run):
    with pytest.raises(ValueError, match="unique"):
        run(FakeApi(good), requests=[REQUESTS[0], REQUESTS[0]])


def test_an_estimate_is_in_dollars_of_batches():
    found = estimate([params(1, 1000), params(2, 1000)], price_of("claude-sonnet-5-5"), 100)
    assert found.requests == 2
    assert found.output_tokens == 200
    assert found.dollars == pytest.approx((found.input_tokens * 2 + 200 * 10) / 2e6)
    assert found.at_most == pytest.approx((found.input_tokens * 2 + 2000 * 10) / 2e6)


def test_cached_input_costs_less_and_writing_the_cache_more():
    price = price_of("a-model-of-next-year", "4,8")
    assert Usage(1_000_000, 0, 0, 0).dollars(price) == pytest.approx(2)
    assert Usage(0, 1_000_000, 0, 0).dollars(price) == pytest.approx(4)
    assert Usage(0, 0, 1_000_000, 0).dollars(price) == pytest.approx(2.5)
    assert Usage(0, 0, 0, 1_000_000).dollars(price) == pytest.approx(0.2)


@pytest.mark.parametrize(("model", "stated"), [("a-model-of-next-year", None), ("claude-haiku-5-5", "cheap")])
def test_an_unknown_price_is_not_guessed(model, stated):
    with pytest.raises(LabellerError, match="price"):
        price_of(model, stated)
