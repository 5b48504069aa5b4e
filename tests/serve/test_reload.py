"""Policies and models that change while a server answers: by RPC, on disk, by command; kept, listed, restored."""

import json
import shutil
import signal
import time

import grpc
import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.errors import CascadeError
from cascade.policy import parse
from cascade.v1.cascade_service_pb2 import CheckStreamRequest, ModerateEnd, ModerateStart, ModerateStreamRequest
from cascade.v1.check_pb2 import ACTION_BLOCK, ACTION_REVIEW, VERDICT_SAFE, VERDICT_UNSAFE, CheckRequest
from cascade.v1.model_service_pb2 import ReloadModelsRequest
from cascade.v1.policy_service_pb2 import (
    GetPolicyRequest,
    ListPolicyRevisionsRequest,
    RollbackPolicyRequest,
    UpdatePolicyRequest,
)
from tests.fakes import fake_policy
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, FAKE_SERVER, start
from tests.serve.load import load
from tests.serve.test_lifecycle import logged, wait_for

CODE = grpc.StatusCode
BLOCK = fake_policy()
REVIEW = fake_policy('[actions]\ncontroversial = "REVIEW"\nunsafe = "REVIEW"\n')
OTHER = fake_policy("[stage1]\nunsafe_threshold = 0.7\n")
WORKERS = pytest.mark.parametrize("workers", [1, 2])
UNSAFE = {"revision": "v1", "words": {"zeppelin": 5.0}}
SAFE = {"revision": "v2", "words": {"zeppelin": -4.0}}


def put(path, text):
    """Replaces a file in one step, as an editor or a deployment does."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text)
    aside.replace(path)


def update(policy, expected):
    return UpdatePolicyRequest(toml=policy.toml, expected_revision=expected)


def current(call, name=""):
    return call.policy.GetPolicy(GetPolicyRequest(name=name)).policy.revision


def used(calls):
    """What judges, wherever the calls lead: the policies' revisions with those of stage 1."""
    answers = [call.cascade.Check(CheckRequest(text="zeppelin"), timeout=60) for call in calls]
    return {(answer.policy_revision, answer.stages[0].revision) for answer in answers}


def wait_until(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def model(tmp_path):
    """A model folder that is reached by a link, as deployments do."""
    for name, content in (("v1", UNSAFE), ("v2", SAFE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps(content))
    (tmp_path / "model").symlink_to("v1")
    return tmp_path / "model"


def turn(link, to):
    aside = link.with_name("aside")
    aside.symlink_to(to)
    aside.replace(link)


def test_no_call_fails_or_sees_two_revisions_while_policies_and_models_change(fake_server, model):
    server = fake_server(alone=1, folder=model)
    call = stubs(server.channel)
    with load(server.port, text="zeppelin", retry=False) as clients:
        clients.wait(20)
        for policy, before in ((REVIEW, BLOCK), (OTHER, REVIEW), (REVIEW, OTHER)):
            assert call.policy.UpdatePolicy(update(policy, before.revision)).policy.revision == policy.revision
            after = call.cascade.Check(CheckRequest(text="zeppelin"))
            assert after.policy_revision == policy.revision, "what is asked after the answer is judged by it"
            clients.wait(20)
        turn(model, "v2")
        reloaded = call.models.ReloadModels(ReloadModelsRequest(), timeout=60)
        assert reloaded.models[0].revision == "v2"  # "changed" is false if the watch was faster
        assert call.cascade.Check(CheckRequest(text="zeppelin")).verdict == VERDICT_SAFE
        clients.wait(20)
    assert clients.errors == []
    seen = {(one.policy_revision, one.stages[0].revision, one.verdict, one.action) for one in clients.answers}
    assert {revision for revision, *_ in seen} == {BLOCK.revision, REVIEW.revision, OTHER.revision}
    for revision, stage, verdict, action in seen:
        assert verdict == (VERDICT_UNSAFE if stage == "v1" else VERDICT_SAFE)
        if verdict == VERDICT_UNSAFE:
            assert action == (ACTION_REVIEW if revision == REVIEW.revision else ACTION_BLOCK)
    wait_for(server, 'cascade_reloads_total{outcome="applied",what="policy"} 3.0')
    wait_for(server, 'cascade_reloads_total{outcome="applied",what="models"} 1.0')
    wait_for(server, f'cascade_policy_info{{policy="default",revision="{REVIEW.revision}"}} 1.0')
    assert not call.models.ReloadModels(ReloadModelsRequest()).changed


def test_what_cannot_be_used_changes_nothing(fake_server, model):
    server = fake_server(alone=1, folder=model, watch=0)
    call = stubs(server.channel)
    refused = fails(CODE.FAILED_PRECONDITION, call.policy.UpdatePolicy, update(REVIEW, OTHER.revision))
    assert refused.info.reason == "PRECONDITION_FAILED"
    assert BLOCK.revision in refused.message
    fails(CODE.FAILED_PRECONDITION, call.policy.UpdatePolicy, update(REVIEW, ""))
    fails(CODE.FAILED_PRECONDITION, call.policy.UpdatePolicy, update(fake_policy(name="new"), BLOCK.revision))
    invalid = UpdatePolicyRequest(toml='schema = 1\nname = "default"\ncolour = 3\n', expected_revision=BLOCK.revision)
    assert fails(CODE.INVALID_ARGUMENT, call.policy.UpdatePolicy, invalid).fields == ["toml"]
    foreign = fake_policy(f'[models]\nstage1 = "{"ab" * 32}"\n')
    refused = fails(CODE.INVALID_ARGUMENT, call.policy.UpdatePolicy, update(foreign, BLOCK.revision))
    assert "models.stage1" in refused.message
    back = RollbackPolicyRequest(revision="0" * 16, expected_revision=BLOCK.revision)
    fails(CODE.NOT_FOUND, call.policy.RollbackPolicy, back)
    fails(CODE.NOT_FOUND, call.policy.ListPolicyRevisions, ListPolicyRevisionsRequest(name="nobody"))
    fails(CODE.INVALID_ARGUMENT, call.policy.ListPolicyRevisions, ListPolicyRevisionsRequest(page_token="x"))
    put(model / "model.json", json.dumps(SAFE | {"refused_once": 1}))
    refused = fails(CODE.FAILED_PRECONDITION, call.models.ReloadModels, ReloadModelsRequest())
    assert "cannot load" in refused.message
    assert current(call) == BLOCK.revision
    answer = call.cascade.Check(CheckRequest(text="zeppelin"))
    assert (answer.stages[0].revision, answer.verdict) == ("v1", VERDICT_UNSAFE)
    wait_for(server, 'cascade_reloads_total{outcome="refused",what="models"} 1.0')
    (line,) = (line for line in logged(server) if line.get("what") == "models")
    assert line["problems"] == ["this process cannot load it"]
    assert (line["level"], line["reason"]) == ("error", "MODEL_UNUSABLE")


def test_a_stream_keeps_its_revision_and_the_next_item_of_another_one_does_not(fake_server):
    server = fake_server()
    call = stubs(server.channel)
    go = [False, False]

    def generation():
        yield ModerateStreamRequest(start=ModerateStart(prompt="hello"))
        wait_until(lambda: go[0])
        yield ModerateStreamRequest(delta="a terrible ")
        yield ModerateStreamRequest(end=ModerateEnd())

    def items():
        yield CheckStreamRequest(request=CheckRequest(request_id="1", text="terrible"))
        wait_until(lambda: go[1])
        yield CheckStreamRequest(request=CheckRequest(request_id="2", text="terrible"))

    moderated, checked = call.cascade.ModerateStream(generation()), call.cascade.CheckStream(items())
    assert next(moderated).verdict.policy_revision == BLOCK.revision
    assert next(checked).response.policy_revision == BLOCK.revision
    call.policy.UpdatePolicy(update(REVIEW, BLOCK.revision))
    go[:] = [True, True]
    *_, last = moderated
    assert last.final
    assert (last.verdict.policy_revision, last.verdict.action) == (BLOCK.revision, ACTION_BLOCK)
    item = next(checked).response
    assert (item.policy_revision, item.action) == (REVIEW.revision, ACTION_REVIEW)


@WORKERS
def test_files_are_watched_and_read_again_on_sighup(fake_server, everywhere, model, tmp_path, workers):
    policy = tmp_path / "policy.toml"
    policy.write_text(BLOCK.toml)
    server = fake_server(workers=workers, alone=1, folder=model, policy=policy)
    call, *_ = calls = everywhere(server)
    put(policy, REVIEW.toml)
    wait_until(lambda: current(call) == REVIEW.revision)
    assert used(calls) == {(REVIEW.revision, "v1")}, "all workers or none"
    put(policy, "schema = ")
    wait_until(lambda: any(line["message"].startswith("change refused") for line in logged(server)))
    assert used(calls) == {(REVIEW.revision, "v1")}
    turn(model, "v2")
    put(policy, OTHER.toml)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: current(call) == OTHER.revision)
    assert used(calls) == {(OTHER.revision, "v2")}
    (changed,) = (line for line in logged(server) if line["message"] == "changed" and line["what"] == "models")
    assert changed["policies"] == {"default": OTHER.revision}, "both at once: each may fit only the other"
    call.policy.UpdatePolicy(update(BLOCK, OTHER.revision))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any(line["message"] == "nothing to reload" for line in logged(server)))
    assert used(calls) == {(BLOCK.revision, "v2")}, "a file that was not edited does not undo what was pushed"


@WORKERS
def test_revisions_are_listed_restored_and_outlive_the_server(fake_server, everywhere, tmp_path, workers):
    policy, state = tmp_path / "policy.toml", tmp_path / "state"
    policy.write_text(BLOCK.toml)
    server = fake_server(workers=workers, policy=policy, state_dir=state)
    call, *_ = calls = everywhere(server)
    call.policy.UpdatePolicy(update(REVIEW, BLOCK.revision))
    call.policy.UpdatePolicy(update(OTHER, REVIEW.revision))
    call.policy.UpdatePolicy(update(fake_policy(name="second"), ""))
    page = call.policy.ListPolicyRevisions(ListPolicyRevisionsRequest(page_size=2))
    rest = call.policy.ListPolicyRevisions(ListPolicyRevisionsRequest(page_token=page.next_page_token))
    listed = [*page.revisions, *rest.revisions]
    assert [one.policy.revision for one in listed] == [OTHER.revision, REVIEW.revision, BLOCK.revision]
    assert [one.current for one in listed] == [True, False, False]
    assert (len(page.revisions), rest.next_page_token) == (2, "")
    assert parse(listed[1].policy.toml).revision == REVIEW.revision
    call.policy.RollbackPolicy(RollbackPolicyRequest(revision=REVIEW.revision, expected_revision=OTHER.revision))
    assert {one.cascade.Check(CheckRequest(text="terrible")).action for one in calls} == {ACTION_REVIEW}
    with (tmp_path / "log").open("w") as log:
        arguments = ["--policy", str(policy), "--state-dir", str(state)]
        with start([*FAKE_SERVER, *arguments], tmp_path, log) as other:
            assert other.communicate(timeout=60)[0] == ""
    assert "another server" in (tmp_path / "log").read_text()
    server.process.kill()
    server.process.communicate()
    again = fake_server(workers=workers, policy=policy, state_dir=state)
    call, *_ = calls = everywhere(again)
    assert {current(one) for one in calls} == {REVIEW.revision}, "it was pushed after the file was read"
    assert current(call, "second") == fake_policy(name="second").revision
    revisions = call.policy.ListPolicyRevisions(ListPolicyRevisionsRequest()).revisions
    assert [(one.policy.revision, one.applied_at) for one in revisions] == [
        (one.policy.revision, one.applied_at) for one in listed
    ]
    again.close()
    put(policy, OTHER.toml)
    assert current(stubs(fake_server(policy=policy, state_dir=state).channel)) == OTHER.revision, "it was edited since"


@WORKERS
def test_the_commands_change_a_running_server(fake_server, everywhere, tmp_path, workers):
    server = fake_server(workers=workers)
    address = f"127.0.0.1:{server.port}"
    review = str(tmp_path / "review.toml")
    put(tmp_path / "review.toml", REVIEW.toml)

    def policy(*arguments, code=0):
        done = CliRunner().invoke(app, ["policy", *arguments, "--server", address])
        if isinstance(done.exception, CascadeError):  # main() makes one line of it
            assert code == 1
            return str(done.exception)
        assert done.exit_code == code == 0, done.output
        return done.stdout

    changes = json.loads(policy("diff", "server", review, "--json"))
    assert changes == [{"key": "actions.unsafe", "before": "BLOCK", "after": "REVIEW"}]
    assert policy("push", review) == f"default: {BLOCK.revision} -> {REVIEW.revision}\n"
    refused = policy("push", review, "--expected", BLOCK.revision, code=1)
    assert refused.startswith("FAILED_PRECONDITION")
    rows = json.loads(policy("revisions", "--json"))
    assert [(row["revision"], row["current"]) for row in rows] == [(REVIEW.revision, True), (BLOCK.revision, False)]
    assert policy("rollback", BLOCK.revision) == f"default: {REVIEW.revision} -> {BLOCK.revision}\n"
    calls = everywhere(server)
    assert {current(call) for call in calls} == {BLOCK.revision}
    assert policy("push", "comments").startswith("comments: new -> ")
    answers = [call.cascade.Check(CheckRequest(text="terrible", policy="comments")) for call in calls]
    (revision,) = {answer.policy_revision for answer in answers}
    assert revision == current(calls[0], "comments") != BLOCK.revision


def test_the_real_command_loads_a_real_model_again(tmp_path):
    """A model folder beside the embedded ones is replaced by a broken copy, which changes nothing, and mended."""
    from stages.registry import EMBEDDED
    from tests.serve.conftest import ServerProcess

    folder = tmp_path / "tinysafe"
    shutil.copytree(EMBEDDED["tinysafe"], folder)
    command = [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--stage1", str(folder), "--stage2", "none"]
    server = ServerProcess([*command, "--no-watch"], tmp_path)
    try:
        call = stubs(server.channel)
        manifest = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(manifest.replace('"kind"', '"kinds"', 1))
        fails(CODE.FAILED_PRECONDITION, call.models.ReloadModels, ReloadModelsRequest())
        assert call.cascade.Check(CheckRequest(text="Hello there"), timeout=60).verdict == VERDICT_SAFE
        (folder / "manifest.json").write_text(manifest)
        with load(server.port, text="Hello there", clients=2, retry=False) as clients:
            clients.wait(3)
            assert call.models.ReloadModels(ReloadModelsRequest(), timeout=120).changed
            clients.wait(3)
        assert clients.errors == []
        assert {answer.verdict for answer in clients.answers} == {VERDICT_SAFE}
    finally:
        server.close()
