"""Every method of the real command, with the embedded models, over a real channel."""

import itertools
import threading

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest

from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest
from cascade.v1.check_pb2 import (
    ACTION_UNSPECIFIED,
    VERDICT_SAFE,
    CheckRequest,
    Conversation,
    Exchange,
    Turn,
)
from cascade.v1.model_service_pb2 import ListModelsRequest
from cascade.v1.policy_service_pb2 import (
    GetPolicyRequest,
    ListPolicyRevisionsRequest,
    RollbackPolicyRequest,
    UpdatePolicyRequest,
    ValidatePolicyRequest,
)
from cascade.v1.stage_service_pb2 import ScoreRequest
from stages.taxonomy import HAZARD_CODES, HAZARD_SLUGS, TINYSAFE_CATEGORIES
from tests.serve.calling import fails, stubs, unpack

CALM = "How do I keep tomato plants alive in a cold spring?"
CODE = grpc.StatusCode


@pytest.fixture
def call(served):
    return stubs(served.channel)


def test_check_answers_with_everything_that_the_contract_promises(call, served):
    answer = call.cascade.Check(CheckRequest(request_id="mine", text=CALM, options={"explain": True}))
    assert answer.request_id == "mine"
    assert answer.verdict == VERDICT_SAFE
    assert answer.action != ACTION_UNSPECIFIED
    assert 0 <= answer.unsafe_probability < 0.5
    assert [(hazard.slug, hazard.code) for hazard in answer.hazards] == [(s, HAZARD_CODES[s]) for s in HAZARD_SLUGS]
    assert [category.name for category in answer.categories] == list(TINYSAFE_CATEGORIES)
    first = answer.stages[0]
    assert f"{first.model}@{first.revision}" == served.ready["stage1"]
    assert (first.name, first.device) == ("stage1", "cpu")
    assert first.infer_ms > 0
    assert answer.coverage.tokens_total == answer.coverage.tokens_scored > 5
    assert answer.coverage.segments == 1
    assert not answer.degraded
    assert answer.policy_revision == call.policy.GetPolicy(GetPolicyRequest()).policy.revision


def test_check_makes_up_an_id(call):
    ids = {call.cascade.Check(CheckRequest(text=CALM)).request_id for _ in range(2)}
    assert len(ids) == 2
    assert "" not in ids


def test_check_reads_exchanges_and_conversations(call):
    exchange = call.cascade.Check(CheckRequest(exchange=Exchange(prompt=CALM, response="Cover them at night.")))
    turns = [Turn(role="user", text=CALM), Turn(role="assistant", text="Cover them at night."), Turn(text="Thanks!")]
    conversation = call.cascade.Check(CheckRequest(conversation=Conversation(turns=turns)))
    alone = call.cascade.Check(CheckRequest(text=CALM))
    assert exchange.verdict == conversation.verdict == VERDICT_SAFE
    assert conversation.coverage.tokens_total > exchange.coverage.tokens_total > alone.coverage.tokens_total


def test_the_same_text_has_the_same_score_on_every_way_in(call):
    check = CheckRequest(text=CALM, options={"bypass_cache": True})
    single = call.cascade.Check(check).unsafe_probability
    batch = call.cascade.BatchCheck(BatchCheckRequest(requests=[check, CheckRequest(text="word " * 300), check]))
    stream = list(call.cascade.CheckStream(iter([CheckStreamRequest(request=check)])))
    scores = [batch.items[0], batch.items[2], stream[0]]
    assert [item.response.unsafe_probability for item in scores] == pytest.approx([single] * 3, abs=0.02)


def test_batch_keeps_the_order_and_an_error_ends_only_its_item(call):
    requests = [
        CheckRequest(request_id="a", text=CALM),
        CheckRequest(request_id="b", text=""),
        CheckRequest(request_id="c", text=CALM, policy="nobody-has-this"),
        CheckRequest(text=CALM),
    ]
    items = call.cascade.BatchCheck(BatchCheckRequest(requests=requests)).items
    assert [item.WhichOneof("result") for item in items] == ["response", "error", "error", "response"]
    assert [item.request_id for item in items[:3]] == ["a", "b", "c"]
    assert items[3].request_id == items[3].response.request_id != ""
    assert [items[1].error.code, items[2].error.code] == [CODE.INVALID_ARGUMENT.value[0], CODE.NOT_FOUND.value[0]]
    assert unpack(items[1].error)[BadRequest].field_violations[0].field == "text"


def test_batch_may_be_empty_but_not_endless(call):
    assert len(call.cascade.BatchCheck(BatchCheckRequest()).items) == 0
    too_many = BatchCheckRequest(requests=[CheckRequest(text="x")] * 257)
    refused = fails(CODE.INVALID_ARGUMENT, call.cascade.BatchCheck, too_many)
    assert refused.fields == ["requests"]
    assert "256" in refused.message


def test_stream_answers_each_item_once_and_goes_on_after_errors(call):
    sent = [CheckRequest(request_id=str(index), text=CALM if index % 5 else "") for index in range(100)]
    requests = (CheckStreamRequest(request=check) for check in sent)
    answers = {answer.request_id: answer for answer in call.cascade.CheckStream(requests, timeout=100)}
    assert answers.keys() == {check.request_id for check in sent}
    assert all((answer.WhichOneof("result") == "error") == (int(key) % 5 == 0) for key, answer in answers.items())


def test_stream_answers_while_the_caller_is_still_thinking(call):
    answered = threading.Event()

    def requests():
        yield CheckStreamRequest(request=CheckRequest(text=CALM))
        assert answered.wait(60)
        yield CheckStreamRequest(request=CheckRequest(request_id="second", text=CALM))

    answers = call.cascade.CheckStream(requests(), timeout=60)
    first = next(answers)
    assert first.request_id == first.response.request_id != ""
    answered.set()
    assert [answer.request_id for answer in answers] == ["second"]


def test_stream_takes_an_item_without_a_check(call):
    (answer,) = call.cascade.CheckStream(iter([CheckStreamRequest()]))
    assert answer.error.code == CODE.INVALID_ARGUMENT.value[0]
    assert answer.request_id


def test_policies_can_be_read_and_tried(call):
    policy = call.policy.GetPolicy(GetPolicyRequest()).policy
    assert call.policy.GetPolicy(GetPolicyRequest(name=policy.name)).policy == policy
    tried = call.policy.ValidatePolicy(ValidatePolicyRequest(toml=policy.toml))
    assert (tried.valid, tried.revision, list(tried.problems)) == (True, policy.revision, [])
    bad = call.policy.ValidatePolicy(ValidatePolicyRequest(toml='schema = 1\nname = "x"\n[stage1]\nunsafe = 3'))
    assert (bad.valid, bad.revision) == (False, "")
    assert any("stage1.unsafe" in problem for problem in bad.problems)
    other = 'schema = 1\nname = "x"\n[models]\nstage1 = "' + "0" * 64 + '"'
    assert not call.policy.ValidatePolicy(ValidatePolicyRequest(toml=other)).valid
    assert not call.policy.ValidatePolicy(ValidatePolicyRequest(toml="a = " + "[" * 5000)).valid
    fails(CODE.NOT_FOUND, call.policy.GetPolicy, GetPolicyRequest(name="nobody-has-this"))
    fails(CODE.RESOURCE_EXHAUSTED, call.policy.ValidatePolicy, ValidatePolicyRequest(toml="#" * 2_000_000))


def test_too_large_or_incomplete_policies_are_not_applied(call):
    fails(CODE.RESOURCE_EXHAUSTED, call.policy.UpdatePolicy, UpdatePolicyRequest(toml="#" * 2_000_000))
    assert fails(CODE.INVALID_ARGUMENT, call.policy.UpdatePolicy, UpdatePolicyRequest()).fields == ["toml", "toml"]
    fails(CODE.NOT_FOUND, call.policy.RollbackPolicy, RollbackPolicyRequest())
    refused = fails(CODE.INVALID_ARGUMENT, call.policy.ListPolicyRevisions, ListPolicyRevisionsRequest(page_size=-1))
    assert refused.fields == ["page_size"]


def test_models_are_listed_in_order(call, served):
    models = call.models.ListModels(ListModelsRequest()).models
    assert [model.stage for model in models] == ["stage1", "stage2"]
    assert [f"{model.name}@{model.revision}" for model in models] == [served.ready["stage1"], served.ready["stage2"]]
    for model in models:
        assert model.labels
        assert model.files
        assert all(len(digest) == 64 for digest in model.files.values())
        assert model.licence
        assert model.window_tokens > 0


def test_a_stage_scores_by_itself(call):
    long = "A quiet evening by the lake, with tea and a book. " * 200
    for stage in ("stage1", "stage2"):
        answer = call.stage.Score(ScoreRequest(stage=stage, texts=[CALM, "", long]), timeout=100)
        assert answer.model.stage == stage
        assert len(answer.results) == 3
        assert [len(result.windows) for result in answer.results[:2]] == [1, 1]
        assert answer.results[1].tokens == 0
        windows = answer.results[2].windows
        assert windows[0].start == 0
        assert windows[-1].end >= len(long.rstrip())
        assert all(after.start <= before.end for before, after in itertools.pairwise(windows))
        assert all(len(window.label_logits) == len(answer.model.labels) for window in windows)
        assert answer.infer_ms > 0


def test_a_stage_refuses_what_it_cannot_score(call):
    fails(CODE.NOT_FOUND, call.stage.Score, ScoreRequest(stage="stage3", texts=["x"]))
    fails(CODE.NOT_FOUND, call.stage.Score, ScoreRequest(texts=["x"]))
    refused = fails(CODE.INVALID_ARGUMENT, call.stage.Score, ScoreRequest(stage="stage1", texts=["x"] * 257))
    assert refused.fields == ["texts"]
    fails(CODE.RESOURCE_EXHAUSTED, call.stage.Score, ScoreRequest(stage="stage1", texts=["x" * 600_000] * 2))
    assert len(call.stage.Score(ScoreRequest(stage="stage1")).results) == 0
