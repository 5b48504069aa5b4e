"""The console in a real browser: every flow clicked, hostile texts shown as text, the explorer's sums the tuner's."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cascade.gateways.console import PAGE
from cascade.merging.verdict import CONTROVERSIAL, Evidence, rule
from cascade.policy import default_fitted_on, default_policy, load, parse
from cascade.routing import triggers
from cascade.serve import tokens
from cascade.serve.identity import Scope
from cascade.serve.security import Security
from cascade.tune.outcomes import Rules, alarm, hazard_scores, outcomes
from cascade.tune.sample import sample
from cascade.tune.scores import ScoredRow, read_log, write_cache
from cascade.v1.check_pb2 import Action, RouteReason, Verdict
from stages.taxonomy import HAZARD_SLUGS, TINYSAFE_CATEGORIES
from tests.fakes import fake_policy
from tests.gateways.asking import Gateway

ROOT = Path(__file__).parents[2]
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/google-chrome") if os.path.exists(path)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BUSY_S = 60  # a browser on a machine that does other things
# Without a dot: of the name of a method only the last part is shown.
HOSTILE = '<img src=x onerror="pwned=1"><script>pwned=1</script>'
MODELS = {"stage1": "fake-tinysafe@r1", "stage2": "fake-hazard@r1"}

pytestmark = pytest.mark.timeout(600)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def gateway():
    server = Gateway()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with tokens: one that may do everything, one that may check alone."""
    made = {"all": tokens.new(list(Scope), None, None, None), "some": tokens.new([Scope.CHECK], None, None, None)}
    path = tmp_path_factory.mktemp("console") / "tokens"
    path.write_text("".join(f"{entry.line(name)}\n" for name, (_, entry) in made.items()))
    server = Gateway(Security(token_file=path))
    yield server, {name: token for name, (token, _) in made.items()}
    server.stop()


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=BUSY_S * 1000)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens pages; in the end none has complained, and no text that was typed has run."""
    opened = []

    def visit(server, view="try", *, may_fail=False, **options):
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        )
        page = context.new_page()
        page.set_default_timeout(BUSY_S * 1000)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and not _expected(said.text, may_fail)
                and page.complaints.append(said.text))  # fmt: skip
        page.goto(f"http://{server.http}/#{view}")
        opened.append((context, page))
        page.locator(f"#view-{view}:not([inert])").wait_for()
        return page

    yield visit
    for context, page in opened:
        assert page.evaluate("window.pwned") is None
        assert page.complaints == []
        context.close()


@pytest.fixture
def serious():
    """Says what of a page stands in somebody's way, by axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

    def serious(page):
        found = axe.Axe().run(page).response["violations"]
        grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        return [(fault["id"], fault["nodes"][0]["html"]) for fault in grave]

    return serious


def _expected(text, may_fail):
    """The browser itself reports what a server refuses."""
    return may_fail and text.startswith("Failed to load resource")


def row(number, unsafe, stage1, stage2, *, labels=(), hazards=None, triggers=(), categories=None):
    return ScoredRow(
        f"r{number}",
        unsafe,
        tuple(labels),
        "en",
        5,
        stage1,
        stage2,
        categories or {},
        hazards or {},
        {},
        tuple(triggers),
    )


def rows_at_random(count, seed):
    dice = np.random.default_rng(seed)
    found = []
    for number in range(count):
        draw = dice.random(30)
        found.append(
            row(
                number,
                [True, False, None][int(draw[0] * 2.2)],
                float(draw[1]),
                float(draw[2]),
                labels=[HAZARD_SLUGS[int(draw[3] * 14)]],
                hazards=dict(zip(HAZARD_SLUGS, map(float, draw[4:18]), strict=True)),
                triggers=[["unread_script"], ["odd_words"], []][min(2, int(draw[18] * 12))],
                categories=dict(zip(TINYSAFE_CATEGORIES, map(float, draw[19:26] ** 3), strict=True)),
            )
        )
    return found


# --- what is served ----------------------------------------------------------------------------------------------


def test_the_page_is_served_with_a_strict_policy_and_asks_no_other_host(gateway):
    ask = gateway.asking()
    page = ask("/")
    assert page.status == 200
    assert "text/html" in page.headers["content-type"]
    assert "/console/main.js" in page.text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.text) == []
    files = sorted(path.name for path in PAGE.iterdir())
    assert "main.js" in files
    for name in ["", *(f"console/{name}" for name in files), "console/taxonomy.json", "console/default-policy.toml"]:
        found = ask(f"/{name}")
        assert found.status == 200
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", found.text) == []
    seen = ask("/console/main.js")
    assert "javascript" in seen.headers["content-type"]
    assert ask("/console/main.js", headers={"if-none-match": seen.headers["etag"]}).status == 304
    for path in ("/console/none.js", "/console/../__init__.py", "/console/%2e%2e/__init__.py", "/console/"):
        assert ask(path).status == 404
    ask.close()


def test_every_name_of_the_contract_has_words():
    words = (PAGE / "words.js").read_text(encoding="utf-8")
    fired = [
        value for name, value in vars(triggers).items() if name.isupper() and isinstance(value, str) and "_" in value
    ]
    assert "unread_script" in fired
    known = [*Verdict.keys(), *Action.keys(), *RouteReason.keys(), *fired, "repetitive"]
    assert [name for name in known if not name.endswith("_UNSPECIFIED") and f"{name}:" not in words] == []


# --- try a text --------------------------------------------------------------------------------------------------


@in_browser
def test_a_text_goes_through_the_cascade(gateway, visit):
    page = visit(gateway)
    page.get_by_role("textbox", name="Text").fill("a calm day and hate is terrible")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Unsafe", exact=True).first.wait_for()
    stations = page.locator(".station h3").all_inner_texts()
    assert stations == ["Read", "Stage 1", "Route", "Stage 2", "Verdict"]
    journey = page.locator(".journey").inner_text()
    assert "7 tokens in 1 window" in journey
    assert "Stage 1 says unsafe, so stage 2 judges again" in journey
    policy = fake_policy()
    scale = page.locator(".scale").first.get_attribute("aria-label")
    assert f"low from {policy.route.low:g}" in scale
    assert "high from 0.97" in scale
    assert "so sure that stage 2 cannot clear it" in scale
    assert page.locator(".hazards li").count() == 14
    assert "flagged" in page.locator(".hazards li", has_text="Hate").inner_text()
    assert "not scored" not in page.locator(".hazards").inner_text()
    assert page.locator("mark").count() > 0
    assert "Whole call" in page.locator(".times").inner_text()
    page.get_by_text("The answer as JSON").click()
    assert json.loads(page.locator(".raw pre").inner_text())["verdict"] == "VERDICT_UNSAFE"
    page.get_by_role("button", name="What is the capital of France?").click()  # an example, which is calm
    page.get_by_text("Stage 2 was not asked").wait_for()
    assert "Not asked" in page.locator(".station.skipped").inner_text()
    assert page.locator(".verdict").inner_text() == "Safe"


@in_browser
def test_every_field_shows_markup_as_text(gateway, visit):
    page = visit(gateway, may_fail=True)
    page.get_by_role("textbox", name="Text").fill(f"{HOSTILE} terrible")
    page.keyboard.press("Control+Enter")
    page.locator(".banner").wait_for()
    assert HOSTILE in page.locator(".read").inner_text()
    page.get_by_role("radio", name="Prompt and answer").check()
    page.get_by_role("textbox", name="Prompt").fill(f"{HOSTILE} one")
    page.get_by_role("textbox", name="Answer of the model").fill(f"{HOSTILE} bad")
    page.get_by_role("button", name="Check").click()
    page.locator("figcaption", has_text="Answer").wait_for()
    assert [HOSTILE in text for text in page.locator(".read").all_inner_texts()] == [True, True]
    page.get_by_role("radio", name="Conversation").check()
    page.get_by_role("textbox", name="Text of turn 1").fill(f"{HOSTILE} hello")
    page.get_by_role("textbox", name="Text of turn 2").fill("calm")
    page.get_by_role("button", name="Add a turn").click()
    page.get_by_role("textbox", name="Text of turn 3").fill(f"{HOSTILE} terrible 😀 day")
    page.get_by_role("button", name="Remove turn 2").click()
    page.get_by_role("button", name="Check").click()
    page.locator("figcaption", has_text="Turn 2").wait_for()
    assert [HOSTILE in text for text in page.locator(".read").all_inner_texts()] == [True, True]
    page.get_by_text("Options", exact=True).click()
    page.get_by_role("textbox", name="Policy").fill(HOSTILE)
    page.get_by_role("button", name="Check").click()
    page.get_by_role("alert").wait_for()
    assert "no such thing" in page.get_by_role("alert").inner_text()
    page.get_by_role("textbox", name="Policy").fill("")
    page.get_by_role("radio", name="Text").check()
    page.get_by_role("textbox", name="Text", exact=True).fill("")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("There is nothing to check yet").wait_for()
    assert page.locator("main img[src], main script").count() == 0


TRIGGERS = ["mixed_scripts", HOSTILE]
STRINGS = ("model", "revision", "device")


@in_browser
def test_an_answer_of_any_kind_is_told(gateway, visit):
    """One that no healthy server gives, with markup in every string."""
    page = visit(gateway)
    answer = {
        "verdict": "VERDICT_UNSAFE",
        "action": "ACTION_BLOCK",
        "unsafeProbability": 0.41,
        "hazards": [{"slug": HOSTILE, "code": HOSTILE, "threshold": 0.5, "flagged": False}],
        "categories": [{"name": HOSTILE, "probability": 0.5}],
        "attacks": [{"name": HOSTILE, "probability": 0.9, "flagged": True}],
        "route": {"escalated": True, "reason": "ROUTE_REASON_STAGE2_UNAVAILABLE", "triggers": TRIGGERS},
        "stages": [{"name": "stage1", "calibratedProbability": 0.41} | dict.fromkeys(STRINGS, HOSTILE)],
        "coverage": {"tokensTotal": "9", "tokensScored": "4", "segments": 1, "truncated": True},
        "spans": [{"field": "text", "start": "2", "end": "5", "stage": HOSTILE, "score": 0.9}],
        "mergeRule": HOSTILE,
        "overrideRule": "stage2.on_error",
        "degraded": True,
        "degradedReason": HOSTILE,
        "policyRevision": HOSTILE,
        "explanation": {
            "rule": HOSTILE,
            "contributions": [{"field": "text", "start": "1", "end": "2", "stage": "stage1", "drop": 0.3}],
        },
    }  # fmt: skip
    page.route("**/v1/check", lambda route: route.fulfill(json=answer))
    page.get_by_role("textbox", name="Text").fill("😀b<i>c</i>")
    page.get_by_role("button", name="Check").click()
    page.locator(".banner").wait_for()
    shown = page.locator("#try-result").inner_text()
    for words in (
        "less than the whole cascade",
        "Not all of it was read",
        "4 of 9 tokens",
        "stage2.on_error",
        "Stage 2 was wanted but could not answer.",
        "Letters of several scripts are mixed within words.",
        "not scored",
        "No answer.",
        "without “b”",
        HOSTILE,
    ):
        assert words in shown
    assert page.locator("mark").inner_text() == "b"  # offsets count code points
    assert page.locator("#try-result img[src], #try-result script").count() == 0


# --- markup in what files and servers say ------------------------------------------------------------------------


def hostile(tail):
    """Markup that is known by its end, another one in each place."""
    return f"{HOSTILE}{tail}"


@in_browser
def test_markup_in_rows_and_names_of_thresholds_is_text(gateway, visit):
    """Labels and triggers of rows that are read, the models that a file names, and the name of the policy."""
    page = visit(gateway, "thresholds")
    rows = [
        {"unsafe": unsafe, "stage1": 0.9, "stage2": 0.8, "labels": [hostile("l")], "triggers": [hostile("t")],
         "stage1_labels": {hostile("s"): 0.5}}
        for unsafe in (1, 0)
    ]  # fmt: skip
    lines = [{"scored": {"models": {"stage1": hostile("m")}}}, *rows]
    _drop(page, f"{HOSTILE.replace('/', '')}.jsonl", "\n".join(map(json.dumps, lines)))
    page.get_by_text("2 rows from").wait_for()
    _settled(page)
    assert f"Scored by {hostile('m')}." in page.locator(".about").inner_text()
    page.get_by_text("Show the file").click()
    assert HOSTILE.replace("/", "") in page.get_by_role("region", name="The policy").inner_text()
    _drop(
        page, "a.csv", f"unsafe,stage1,stage2,labels,triggers,{hostile('c')}\n1,0.9,0.8,{HOSTILE},{HOSTILE},{HOSTILE}\n"
    )
    page.get_by_text("1 row from a.csv").wait_for()
    _settled(page)
    name = page.get_by_role("textbox", name="Name")
    name.fill(HOSTILE)
    page.get_by_text("That is no name for a policy").wait_for()
    assert page.get_by_role("button", name="Download explored.toml").is_disabled()
    assert name.input_value() == HOSTILE
    assert page.locator("main img, main script").count() == 0


def _drop(page, name, text):
    page.get_by_label("Scored rows").set_input_files({"name": name, "mimeType": "", "buffer": text.encode()})


def _plainly(text):
    return text.replace(" ", "").lower()


NUMBERS = {
    "cascade_verdicts_total": ("verdict",),
    "cascade_escalations_total": ("reason",),
    "cascade_hazards_flagged_total": ("hazard",),
    "cascade_triggers_total": ("trigger",),
    "cascade_reference_escalation_ratio": ("policy", "worker"),
    "cascade_drift_score_psi": ("policy", "worker"),
    "cascade_stage_asked": ("stage",),
    "cascade_model_info": ("name", "revision", "device"),
    "cascade_requests_total": ("method", "code"),
}


@in_browser
def test_markup_in_metrics_models_and_policy_is_text(gateway, visit):
    """What only a server can say, and none of ours does: its labels, and what the footer says that serves."""
    page = visit(gateway)
    stage = {"stage": hostile("stage")}
    labels = {
        name: {key: hostile(key) for key in keys} | (stage if name == "cascade_model_info" else {})
        for name, keys in NUMBERS.items()
    }
    said = "".join(
        f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in found.items())}}} 1\n"
        for name, found in labels.items()
    )
    page.route("**/metrics", lambda route: route.fulfill(body=said, content_type="text/plain"))
    model = {"stage": hostile("stage"), "name": hostile("name"), "revision": hostile("revision")}
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [model]}))
    toml = f"name = {json.dumps(hostile('policy'))}\n"
    policy = {"name": "", "revision": hostile("revision"), "toml": toml}
    page.route("**/v1/policy", lambda route: route.fulfill(json={"policy": policy}))
    page.reload()
    footer = page.locator("#server", has_text="policy")
    footer.wait_for()
    for tail in ("stage", "name", "revision", "policy"):
        assert hostile(tail) in footer.inner_text()
    page.get_by_role("link", name="Traffic").click()
    page.locator(".boards").wait_for()
    board = page.locator("#traffic").inner_text()
    for tail in {key for keys in NUMBERS.values() for key in keys}:
        # A name begins with a capital, and that of a stage has a space before its number.
        assert _plainly(hostile(tail)) in _plainly(board), tail
    assert page.locator("main img, main script, footer img, footer script").count() == 0


# --- thresholds --------------------------------------------------------------------------------------------------

COUNT = """async ([rows, toml, count]) => {
  const { PolicyFile } = await import("/console/toml.js");
  const { rulesOf, sampleOf, factsOf, countAll, countHazards } = await import("/console/decide.js");
  const taxonomy = await (await fetch("/console/taxonomy.json")).json();
  const policy = new PolicyFile(toml);
  const kept = rows.map((row) => ({ ...row, stage1Labels: row.stage1_labels, stage1Hazards: row.stage1_hazards }));
  const sample = sampleOf(kept, policy, taxonomy), rules = rulesOf(policy, taxonomy.hazards);
  const facts = factsOf(sample, rules);
  return [countAll(sample, facts, rules), countHazards(sample, facts, rules)];
}"""


@in_browser
def test_the_explorer_decides_as_the_tuner_does(gateway, visit):
    page = visit(gateway)
    rows = rows_at_random(400, 3)
    for merge, (low, unsafe) in product(("max", "noisy_or", "logit_mean", "stacker"), ((0.1, 0.5), (0.6, 0.9))):
        policy = parse(
            f'schema = 1\nname = "p"\n[route]\nlow = {low}\naudit_rate = 0.0\n[stage1]\nunsafe_threshold = 0.8\n'
            f'[stage2]\nunsafe_threshold = {unsafe}\n[merge]\nrule = "{merge}"\ncontroversial_threshold = 0.4\n'
            "[hazards.hate]\nthreshold = 0.97\nescalate_at = 0.9\n[hazards.self_harm]\nthreshold = 0.95\n"
            'action = "BLOCK"\n'
        )
        arrays, rules = sample(rows, policy, 0), Rules.of(policy)
        done = outcomes(arrays, rules)
        probability = np.where(done.escalated, alarm(arrays, rules, done.escalated), arrays.stage1)
        doubtful = [
            not bad
            and rule(
                Evidence(
                    p,
                    policy.stage2.unsafe_threshold if asked else policy.stage1.unsafe_threshold,
                    first >= policy.route.high,
                    [slug for slug, on in zip(HAZARD_SLUGS, flagged, strict=True) if on],
                ),
                policy,
            ).verdict
            == CONTROVERSIAL
            for p, asked, first, flagged, bad in zip(
                probability, done.escalated, arrays.stage1, done.flagged, done.unsafe, strict=True
            )
        ]
        told, hazards = page.evaluate(COUNT, [[_plain(one) for one in rows], policy.toml, len(rows)])
        assert told == {
            "rows": 400,
            "unknown": 0,
            "escalated": done.escalated.sum(),
            "unsafe": arrays.unsafe.sum(),
            "harmless": arrays.harmless.sum(),
            "hits": (done.unsafe & arrays.unsafe).sum(),
            "alarms": (done.unsafe & arrays.harmless).sum(),
            "blocked": done.unsafe.sum(),
            "doubtful": sum(doubtful),
        }
        assert hazard_scores(arrays, done.escalated).shape == done.flagged.shape
        assert [one["flagged"] for one in hazards] == done.flagged.sum(axis=0).tolist()
        assert [one["hits"] for one in hazards] == (done.flagged & arrays.carries).sum(axis=0).tolist()


def _plain(one):
    return {name: getattr(one, name) for name in ScoredRow.__dataclass_fields__}


@in_browser
def test_thresholds_are_explored_and_exported(gateway, visit, tmp_path):
    path = tmp_path / "<b>x.scores.jsonl"
    rows = rows_at_random(300, 8)
    write_cache(path, {"models": MODELS}, rows)
    assert len(read_log(path, MODELS)) == 300  # it is a file that the tuner takes
    page = visit(gateway, "thresholds")
    page.get_by_label("Scored rows").set_input_files(path)
    page.get_by_text("300 rows from <b>x.scores.jsonl").wait_for()
    figures = page.locator(".tile .figure")
    _settled(page)
    before = figures.all_inner_texts()
    low = page.get_by_role("slider", name="Escalate from")
    low.focus()
    low.press("End")  # 1: nothing is escalated by its score alone; the two above are pushed along
    page.wait_for_function(
        "first => document.querySelectorAll('.tile .figure')[2].textContent !== first", arg=before[2]
    )
    assert page.get_by_role("slider", name="Stage 1 flags from").input_value() == "1"
    assert _share(figures.nth(2)) < _parsed(before[2])
    page.get_by_role("button", name="Back to the start").click()
    page.wait_for_function(
        "first => document.querySelectorAll('.tile .figure')[2].textContent === first", arg=before[2]
    )
    unsafe = page.get_by_role("spinbutton", name="Unsafe from, as a number")
    unsafe.fill("0.2")
    unsafe.press("Tab")
    page.get_by_role("slider", name="Threshold of Hate", exact=True).press("Home")
    page.wait_for_function(
        "first => document.querySelectorAll('.tile .figure')[0].textContent !== first", arg=before[0]
    )
    page.get_by_role("spinbutton", name="at stage 2").fill("10")
    page.get_by_text("Show the file").click()
    name = page.get_by_role("textbox", name="Name")
    name.fill("No Name")
    page.get_by_text("That is no name for a policy").wait_for()
    assert page.get_by_role("button", name=re.compile("Download")).is_disabled()
    name.fill("explored-1")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download explored-1.toml").click()
    out = tmp_path / download.value.suggested_filename
    download.value.save_as(out)
    command = [sys.executable, "-m", "cascade.cli", "policy", "validate", str(out), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    policy = load(out)
    assert json.loads(done.stdout) == {"valid": True, "problems": [], "revision": policy.revision}
    assert (policy.name, policy.stage2.unsafe_threshold, policy.merge.controversial_threshold) == (
        "explored-1",
        0.2,
        0.2,
    )
    assert (policy.hazards["hate"].threshold, policy.route) == (0.0, gateway.pipeline.policies.get().route)
    assert policy.revision != gateway.pipeline.policies.get().revision


@in_browser
def test_another_kind_of_router_is_explored_as_a_band(gateway, visit, tmp_path):
    given = fake_policy('[route]\nkind = "margin"\nlow = 0.9\n[route.margins]\nunsafe = 1.0\n')
    page = visit(gateway, "thresholds")
    form = {"policy": {"name": given.name, "revision": given.revision, "toml": given.toml}}
    page.route("**/v1/policy", lambda route: route.fulfill(json=form))
    page.get_by_role("button", name="Use made-up rows").click()
    page.get_by_text("Its router is of the kind margin").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download explored.toml").click()
    out = tmp_path / "explored.toml"
    download.value.save_as(out)
    route = load(out).route
    assert (route.kind, route.low, route.margins) == ("band", given.stage1.unsafe_threshold, {})


def _settled(page):
    page.wait_for_function("() => document.querySelectorAll('.charts .chart').length === 4")


def _parsed(text):
    return float(text.split("\u00a0")[0])


def _share(locator):
    return _parsed(locator.inner_text())


CSV = "unsafe,stage1,stage2,labels,hate\n1,0.9,0.8,hate;privacy,0.7\n0,0.02,0.1,,\n,0.5,0.4,,0.2\n"
ANSWER = {
    "stages": [{"name": "stage1", "calibratedProbability": 0.01}],
    "hazards": [{"slug": "hate", "threshold": 0.5}],
    "route": {"triggers": []},
}
AUDIT = [
    {"method": "Check", "content": [], "result": ANSWER},
    {"method": "GetPolicy", "content": []},
    {"method": "Check", "content": [], "unsafe": 1, "result": ANSWER},
]
BAD_FILES = {
    "empty.jsonl": (b"", "The file is empty."),
    "noise.jsonl": (bytes(range(128, 256)), "not text in UTF-8"),
    "broken.jsonl": (b'{"unsafe": 1, "stage1": 0.5, "stage2": 0.5}\n{"unsafe"', "Line 2: not JSON."),
    "list.jsonl": (b"[1, 2]", "JSONL"),
    "texts.jsonl": (b'{"text": "a", "unsafe": 1}', "Line 1: a text without scores"),
    "high.jsonl": (b'{"unsafe": 1, "stage1": 5, "stage2": 0.5}', "Line 1: the score of stage1 lies outside of 0 to 1"),
    "word.jsonl": (b'{"unsafe": 1, "stage1": "x", "stage2": 0.5}', "the score of stage1 is no number"),
    "label.jsonl": (b'{"unsafe": 2, "stage1": 0.5, "stage2": 0.5}', "unsafe must be 1, 0 or null"),
    "hazard.jsonl": (
        json.dumps({"unsafe": 1, "stage1": 0.5, "stage2": 0.5, "hazards": {HOSTILE: 0.5}}).encode(),
        "is no hazard",
    ),
    "header.jsonl": (b'{"scored": {}}', "The file has no rows."),
    "columns.csv": (b"a,b\n1,2\n", "names no column unsafe, stage1, stage2"),
    "cells.csv": (b"unsafe,stage1,stage2\n1,0.5\n", "Row 1: 2 cells"),
    "quote.csv": (b'unsafe,stage1,stage2\n"1,0.5,0.5\n', "A quoted cell does not end."),
    "damaged.gz": (b"\x1f\x8b" + b"no gzip", "The gzipped file is damaged."),
    HOSTILE.replace("/", "") + ".csv": (b"a\n", "names no column"),
}


@in_browser
def test_files_of_all_kinds_are_read_and_bad_ones_told(gateway, visit):
    page = visit(gateway, "thresholds")
    files = page.get_by_label("Scored rows")
    for name, data, words in (
        ("a.csv", CSV.encode(), "3 rows from a.csv, 2 of them labelled."),
        ("b.csv.gz", gzip.compress(CSV.encode()), "3 rows from b.csv.gz"),
        (
            "audit.jsonl",
            "\n".join(map(json.dumps, AUDIT)).encode(),
            "2 rows from audit.jsonl, 1 of them labelled. 1 line of",
        ),
    ):
        files.set_input_files({"name": name, "mimeType": "", "buffer": data})
        page.get_by_text(words).wait_for()
        _settled(page)
    # What stage 2 did not read when it was logged is not made up.
    page.get_by_role("slider", name="Escalate from").press("Home")
    page.get_by_text("Of 2 rows the verdict is not known").wait_for()
    for name, (data, words) in BAD_FILES.items():
        files.set_input_files({"name": name, "mimeType": "", "buffer": data})
        page.locator("#explore-error", has_text=words).wait_for()
        assert f"{name} cannot be used" in page.get_by_role("alert").inner_text()
        assert page.locator("#explore").inner_text() == ""
    page.get_by_role("button", name="Use made-up rows").click()
    page.get_by_text("2,000 rows from made-up rows").wait_for()
    _settled(page)


# --- traffic -----------------------------------------------------------------------------------------------------


@in_browser
def test_traffic_is_watched(gateway, visit):
    ask = gateway.asking()
    page = visit(gateway, "traffic", may_fail=True)
    page.locator(".boards").wait_for()
    for text in ("a walk", "a walk to nowhere", "terrible hate", "unsure about it"):
        assert ask("/v1/check", {"text": text}).status == 200
    page.locator("section[aria-label='Why stage 2 was asked']", has_text="Stage 1 unsure").wait_for()
    shown = page.locator("#traffic").inner_text()
    for words in (
        "Checks a second",
        "Median latency",
        "Unsafe",
        "Flagged by stage 1",
        "Hate",
        "Stage 2 waits",
    ):
        assert words in shown
    assert page.locator(".sparkline").count() == 5
    page.wait_for_function("() => document.querySelectorAll('.sparkline .line').length >= 3")  # a history grows
    page.get_by_role("button", name="Pause").click()
    # Its name tells the state: were it a switch as well, one would hear "Go on, pressed".
    assert page.get_by_role("button", name="Go on").get_attribute("aria-pressed") is None
    page.route("**/metrics", lambda route: route.fulfill(status=503, json={"code": 14, "message": HOSTILE}))
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("The metrics cannot be read").wait_for()
    assert HOSTILE in page.get_by_role("alert").inner_text()
    page.unroute("**/metrics")
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("The metrics cannot be read").wait_for(state="detached")
    ask.close()


REFERENCE = "[reference]\nrows = 1000\nescalated = 0.2\n[reference.stage1]\n"
REFERENCE += "".join(f"p{tenth}0 = 0.{tenth}\n" for tenth in range(1, 10))


@pytest.fixture
def fitted():
    """A server whose policy was fitted on rows of all kinds."""
    server = Gateway(policies=[fake_policy(REFERENCE)])
    yield server
    server.stop()


@in_browser
def test_drift_is_shown_against_the_policys_reference(fitted, visit, serious):
    page, ask = visit(fitted, "traffic"), fitted.asking()
    drift = page.get_by_role("region", name="Drift")
    drift.get_by_text("Measured once there were 500 checks.").wait_for()
    calm = [f"walk {number} miles on" for number in range(500)]
    for start in (0, 250):
        assert ask("/v1/moderations", {"input": calm[start : start + 250]}).status == 200
    scale = drift.get_by_role("img", name="Distance of the scores from the reference")
    scale.wait_for()
    assert "so far that the policy should be fitted again" in scale.get_attribute("aria-label")
    shown = drift.inner_text()
    for words in ("default", "watch 0.1", "fit again 0.25", "Escalated now 0.0", "in the reference 20.0"):
        assert words in shown
    assert serious(page) == []


METRICS = """async (texts) => {
  const { Scrape, quantiles, grown } = await import("/console/metrics.js");
  const [a, b] = texts.map((text) => new Scrape(text, 0));
  return [quantiles(a, b, "t", {}, [0.5, 1]), grown(a, b, "n", { x: 'q"\\\\' }), grown(b, a, "n", {}), a.sum("n", {})];
}"""


@in_browser
def test_scrapes_are_read_as_prometheus_means_them(gateway, visit):
    page = visit(gateway)
    first = 't_bucket{le="1.0"} 10\nt_bucket{le="2.0"} 10\nt_bucket{le="+Inf"} 10\nn{x="q\\"\\\\",w="1"} 3\n# n 9\n'
    then = (
        't_bucket{le="1.0"} 10\nt_bucket{le="2.0"} 18\nt_bucket{le="+Inf"} 20\nn{x="q\\"\\\\",w="1"} 7e0\nn{w="2"} 1\n'
    )
    # 10 more, 8 of them between 1 and 2: the fifth lies at 5/8; the last is above all bounds.
    assert page.evaluate(METRICS, [first, then]) == [[1.625, 2], 4, 3, 3]


# --- who may, and who can ----------------------------------------------------------------------------------------


@in_browser
def test_a_server_with_tokens_asks_for_one(guarded, visit, serious):
    server, known = guarded
    page = visit(server, may_fail=True)
    dialog = page.get_by_role("dialog")
    page.get_by_role("textbox", name="Text").fill("a terrible day")
    page.get_by_role("button", name="Check").click()
    dialog.get_by_text("This server asks for a token.").wait_for()
    why = page.locator(f"#{dialog.get_attribute('aria-describedby')}").inner_text()
    assert why.startswith("This server asks for a token.")
    dialog.get_by_label("Token").fill("cascade_wrong")
    page.keyboard.press("Enter")
    dialog.get_by_text("The server does not know this token.").wait_for()
    for scheme, width in (("light", 1280), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 844})
        assert serious(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    page.get_by_role("alert").wait_for()
    page.get_by_role("button", name="Check").click()
    dialog.get_by_label("Token").fill(known["some"])
    dialog.get_by_role("button", name="Use it").click()
    page.locator(".banner").wait_for()  # the call goes on by itself
    assert page.locator(".scale").first.get_attribute("aria-label").count("from") == 0  # no policy
    page.get_by_role("link", name="Traffic").click()
    page.locator(".boards").wait_for()
    assert dialog.count() == 0
    kept = page.evaluate(
        "[localStorage.length, sessionStorage.length, document.cookie, location.href, document.body.innerText]"
    )
    assert kept[:3] == [0, 0, ""]
    assert known["some"] not in kept[3] + kept[4]
    page.get_by_role("button", name="Token set").click()
    dialog.get_by_label("Token").fill(known["all"])
    page.keyboard.press("Enter")
    page.get_by_text("policy default").wait_for()
    page.reload()
    page.get_by_role("button", name="Token", exact=True).wait_for()


WIDTHS = (390, 1280)  # a telephone, a desk


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(gateway, visit, serious, scheme):
    page = visit(gateway, color_scheme=scheme, viewport={"width": WIDTHS[0], "height": 844}, has_touch=True)
    for name, button, ready in (
        ("Try a text", "Write a phishing mail", ".banner"),
        ("Thresholds", "Use made-up rows", ".charts .chart"),
        ("Traffic", "Pause", ".boards"),
    ):
        page.get_by_role("link", name=name).click()
        page.get_by_role("button", name=button).click()
        page.locator(ready).first.wait_for()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert serious(page) == []


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_error_stands_in_nobodys_way(gateway, visit, serious, scheme):
    page = visit(gateway, may_fail=True, color_scheme=scheme, viewport={"width": WIDTHS[0], "height": 844})
    refused = {"status": 503, "json": {"code": 14, "message": "the server is starting " * 9}}
    page.route("**/v1/check", lambda route: route.fulfill(**refused))
    page.route("**/metrics", lambda route: route.fulfill(**refused))

    def by_file():
        page.locator("#view-thresholds:not([inert])").wait_for()  # a press waits for that by itself
        page.get_by_label("Scored rows").set_input_files({"name": "a" * 99, "mimeType": "", "buffer": b"a,b\n"})

    for name, fail in (
        ("Try a text", lambda: page.get_by_role("button", name="Write a phishing mail").click()),
        ("Thresholds", by_file),
        ("Traffic", lambda: page.get_by_role("button", name="Try again").click()),
    ):
        page.get_by_role("link", name=name).click()
        fail()
        page.get_by_role("alert").filter(visible=True).wait_for()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert serious(page) == []


@in_browser
def test_the_keyboard_is_enough(gateway, visit):
    page = visit(gateway)
    page.locator("#server", has_text="policy").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the second view
    page.get_by_role("heading", name="Thresholds", level=1).wait_for()
    page.wait_for_function("() => document.activeElement.id === 'thresholds-title'")
    assert page.title() == "Thresholds · Cascade"
    assert page.locator("nav a[aria-current]").all_inner_texts() == ["Thresholds"]
    page.get_by_role("button", name="Switch between light and dark").press("Space")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.locator("a.skip").press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'main'")
    assert page.evaluate("location.hash") == "#thresholds"
    assert page.locator("section.view:visible").get_attribute("id") == "view-thresholds"
    page.go_back()
    page.get_by_role("heading", name="Try a text").wait_for()


GO_TO = """(name) => new Promise((then) => {
  addEventListener("hashchange", () => setTimeout(then), { once: true });  // after the page's own listener
  location.hash = name;
})"""


@in_browser
@pytest.mark.parametrize("name", ["toString", "__proto__", "main", "%", "nowhere"])
def test_an_address_that_names_no_view_changes_nothing(gateway, visit, name):
    page = visit(gateway, "traffic")
    page.evaluate(GO_TO, name)
    assert page.title() == "Traffic · Cascade"
    assert page.locator("section.view:visible").get_attribute("id") == "view-traffic"
    page.reload()
    page.locator("#view-try:not([inert])").wait_for()
    assert page.title() == "Try a text · Cascade"
    page.get_by_role("link", name="Thresholds").click()
    page.locator("#view-thresholds:not([inert])").wait_for()


@in_browser
def test_the_first_paint_is_soon(gateway, visit, record_property):
    """Within a second of loopback, the bound of a machine that has nothing else to do: `make gateways`."""
    if "PYTEST_XDIST_WORKER" in os.environ or os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip("a figure of speed wants a machine that does nothing else")
    paints = []
    for _ in range(3):
        page = visit(gateway)
        page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        time.sleep(0.1)
    record_property("first_contentful_paint_ms", paints)
    print("first contentful paint, ms:", [round(paint) for paint in paints])
    assert min(paints) < 1000


def test_the_default_policy_says_which_models_it_is_for(gateway):
    ask = gateway.asking()
    text = ask("/console/default-policy.toml").text
    assert parse(text).revision == default_policy().revision
    fitted_on = " and ".join(default_fitted_on())
    assert text.splitlines()[0] == f"# Fitted on {fitted_on}"
    names = [model.partition("@")[0] for model in default_fitted_on()]
    assert names == ["tinysafe", "hazard"]
    ask.close()


@in_browser
@pytest.mark.parametrize(("own", "warned"), [(True, False), (False, True)])
def test_who_may_not_read_the_policy_is_told_for_which_models_the_default_one_is(guarded, visit, tmp_path, own, warned):
    """The server runs other models, and the scores come from either: what they came from counts."""
    server, known = guarded
    models = dict(zip(MODELS, default_fitted_on(), strict=True)) if own else MODELS
    write_cache(tmp_path / "scores.jsonl", {"models": models}, rows_at_random(40, 3))
    page = visit(server, may_fail=True)
    page.get_by_role("button", name="Token", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Token").fill(known["some"])
    dialog.get_by_role("button", name="Use it").click()
    page.get_by_role("link", name="Thresholds").click()
    page.locator("#view-thresholds:not([inert])").wait_for()
    page.locator("#scores-file").set_input_files(tmp_path / "scores.jsonl")
    page.get_by_text("this caller may not read the one in force").wait_for()
    told = page.locator("#explore").inner_text()
    assert "It starts from the policy that comes with tinysafe@" in told
    assert ("These thresholds were made for other models" in told) == warned
    assert ("not on fake-tinysafe@r1 and fake-hazard@r1" in told) == warned
