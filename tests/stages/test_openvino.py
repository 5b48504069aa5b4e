"""OpenVINO runs the embedded files, comes to the decisions of ONNX Runtime, and is chosen where it is faster."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.cli import app, runtimes
from cascade.policy.fingerprint import calibration_digest
from stages import fastest as choice
from stages.encoder import calibration_of
from stages.errors import DependencyError, ModelError, ScoreDriftError
from stages.manifest import Golden, Manifest, OnRuntime, Scale
from stages.registry import EMBEDDED, load_stage
from stages.stage import Platt, Window

ROOT = Path(__file__).parents[2]
LENGTHS = (2, 3, 7, 16, 33, 100, 192)
WITHOUT = "import sys; sys.modules['openvino'] = None\n"  # as if it were not installed


@pytest.fixture(scope="module")
def stages():
    if find_spec("openvino") is None:  # imported here, it would call home
        pytest.skip("the extra `openvino` is not installed")
    return {name: load_stage(name, runtime="openvino", calls=2) for name in EMBEDDED}


@pytest.fixture
def folder(tmp_path):
    """A copy of stage 1 that has no numbers of its own for another runtime."""
    if find_spec("openvino") is None:  # imported here, it would call home
        pytest.skip("the extra `openvino` is not installed")
    folder = shutil.copytree(EMBEDDED["tinysafe"], tmp_path / "tinysafe")
    Manifest.load(folder).model_copy(update={"runtimes": {}}).save(folder)
    return folder


def edit_golden(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["golden"])
    path.write_text(json.dumps(manifest))


def windows_of(stage):
    ids = np.random.default_rng(7).integers(1000, 20000, max(LENGTHS)).tolist()
    first, *_, last = stage.encode("a").windows[0].ids
    return [Window((first, *ids[: length - 2], last), 0, 0) for length in LENGTHS]


@pytest.mark.parametrize("name", EMBEDDED)
def test_it_says_what_runs_and_scores_about_as_onnxruntime_does(stages, name):
    stage, other = stages[name], load_stage(name)
    assert stage.info.runtime in ("openvino-int8", "openvino-bf16")
    assert other.info.runtime == "onnxruntime-int8"
    assert stage.info.files == other.info.files
    for window in windows_of(stage):
        (one,), (two,) = stage.score([window]), other.score([window])
        assert abs(one.unsafe - two.unsafe) < 0.5
        assert np.abs(one.labels - two.labels).max() < 0.5


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", EMBEDDED)
def test_both_precisions_keep_to_the_golden_texts_on_every_copy(stages, name, bf16):
    from stages.runtime.openvino import OpenVinoNetwork

    manifest = Manifest.load(EMBEDDED[name])
    outputs = ("binary_logit", "category_logits" if name == "tinysafe" else "hazard_logits")
    network = OpenVinoNetwork(EMBEDDED[name] / "model.onnx", outputs, calls=2, pad_id=manifest.pad_id, bf16=bf16)
    assert network.runtime == ("openvino-bf16" if bf16 else "openvino-int8")
    for golden in manifest.golden:
        window = stages[name].encode(golden.text).windows[0]
        for _ in range(2):  # the copies take turns
            unsafe, labels = network.run([window])
            assert abs(unsafe.item() - golden.unsafe) < 0.3
            assert np.abs(labels[0] - golden.labels).max() < 0.3


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_text_scores_the_same_alone_in_company_again_and_from_many_threads(stages, name):
    stage = stages[name]
    windows = windows_of(stage)
    alone = [stage.score([window])[0] for window in windows]
    together = stage.score(windows)
    with ThreadPoolExecutor(4) as pool:  # twice as many as there are copies
        threaded = list(pool.map(lambda window: stage.score([window])[0], windows * 3))
    for found in (together, threaded[: len(windows)], threaded[len(windows) : -len(windows)]):
        assert [scores.unsafe for scores in found] == [scores.unsafe for scores in alone]
        assert all((one.labels == two.labels).all() for one, two in zip(found, alone, strict=True))


def test_another_decision_on_a_golden_text_is_refused_unless_allowed(folder):
    stage = load_stage("tinysafe")
    golden = Manifest.load(folder).golden
    middle = next(logit for logit in np.linspace(-5, 5, 2001) if stage.calibration.unsafe(logit) >= 0.5)
    nearest = min(range(len(golden)), key=lambda index: abs(golden[index].unsafe - middle))

    def turn(rows):
        rows[nearest]["unsafe"] = float(2 * middle - rows[nearest]["unsafe"])

    edit_golden(folder, turn)
    with pytest.raises(ScoreDriftError, match=r"openvino-.* differ by .* logits and 1 decisions from onnxruntime"):
        load_stage(folder, runtime="openvino")
    assert load_stage(folder, runtime="openvino", allow_score_drift=True).info.runtime.startswith("openvino-")


def test_a_score_that_is_too_far_off_is_refused(folder):
    edit_golden(folder, lambda rows: rows[0].update(unsafe=rows[0]["unsafe"] - 0.6))  # the decision stays
    with pytest.raises(ScoreDriftError, match=r"and 0 decisions .*--allow-score-drift"):
        load_stage(folder, runtime="openvino")


@pytest.fixture
def fitted(folder, stages):
    """A copy of stage 1 with another calibration, and golden scores of its own, for the runtime of this machine."""
    fit_to(folder, stages["tinysafe"].info.runtime)
    return folder


def fit_to(folder, runtime, shift=0.0):
    stage, manifest = load_stage("tinysafe", runtime="openvino"), Manifest.load(folder)
    golden = []
    for row in manifest.golden:
        (scores,) = stage.score(stage.encode(row.text).windows[:1])
        golden.append(Golden(text=row.text, unsafe=scores.unsafe + shift, labels=scores.labels.tolist()))
    numbers = manifest.calibration.model_copy(update={"unsafe": Scale(slope=7.0, bias=1.0)})
    own = OnRuntime(calibration=numbers, calibrated_on="here", golden=golden)
    manifest.model_copy(update={"runtimes": {runtime: own}}).save(folder)


def test_what_was_fitted_on_a_runtime_holds_there_and_nowhere_else(fitted):
    there, elsewhere, plain = load_stage(fitted, runtime="openvino"), load_stage(fitted), load_stage("tinysafe")
    assert there.calibration.unsafe == Platt(7.0, 1.0)
    assert elsewhere.calibration == plain.calibration
    digests = [calibration_digest(stage.calibration) for stage in (there, elsewhere, plain)]
    assert digests[0] != digests[1] == digests[2], "a certificate of the one is refused on the other"


def test_what_was_fitted_on_another_runtime_is_left_alone(folder, stages):
    fit_to(folder, "openvino-of-another-cpu")
    assert load_stage(folder, runtime="openvino").calibration == load_stage("tinysafe").calibration


def test_a_runtime_with_golden_scores_of_its_own_is_held_to_them_more_closely(folder, stages):
    runtime = stages["tinysafe"].info.runtime
    fit_to(folder, runtime, shift=0.2)  # ONNX Runtime's may differ by 0.3
    with pytest.raises(ScoreDriftError, match=rf"0\.200 logits .* Fit {runtime} again \(training\.runtimes\)"):
        load_stage(folder, runtime="openvino")
    assert load_stage(folder).info.runtime == "onnxruntime-int8"


def test_numbers_of_a_runtime_for_other_labels_are_refused(fitted):
    path = fitted / "manifest.json"
    manifest = json.loads(path.read_text())
    (own,) = manifest["runtimes"].values()
    own["golden"][0]["labels"].pop()
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"runtimes\.openvino-\w+ is not of 7 labels"):
        load_stage(fitted)


def test_a_manifest_without_other_runtimes_stays_as_earlier_releases_read_it(folder):
    assert "runtimes" not in json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_models_are_calibrated_on_openvino_int8_too(stages, name):
    own = Manifest.load(EMBEDDED[name]).runtimes["openvino-int8"]
    plain = load_stage(name).calibration
    assert calibration_of(own.calibration) != plain
    fitted = stages[name].info.runtime == "openvino-int8"  # with AMX it computes in bfloat16, and goes by the others
    assert stages[name].calibration == (calibration_of(own.calibration) if fitted else plain)


def test_files_that_are_no_such_network(folder, stages):
    from stages.runtime.openvino import OpenVinoNetwork

    with pytest.raises(ModelError, match="no input or output named odd"):
        OpenVinoNetwork(folder / "model.onnx", ("binary_logit", "odd"))
    (folder / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"model\.onnx: not a network that OpenVINO can load"):
        OpenVinoNetwork(folder / "model.onnx", ("binary_logit", "category_logits"))


def test_what_it_does_not_run_is_named(tmp_path):
    with pytest.raises(ModelError, match="no runtime 'abacus'"):
        load_stage("tinysafe", runtime="abacus")
    with pytest.raises(ModelError, match="openvino runs the embedded models and model folders"):
        load_stage("grpc://127.0.0.1:9", runtime="openvino")


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, "openvino"), (0.99, "onnxruntime"), (2.0, "onnxruntime")])
def test_auto_takes_what_is_faster_by_more_than_a_little_and_says_why(stages, monkeypatch, seconds, expected):
    monkeypatch.setattr(choice, "measure", lambda stages: {"onnxruntime": 1.0, "openvino": seconds})
    found = choice.fastest("tinysafe")
    assert found.runtime == expected
    assert found.why.startswith(f"tinysafe: runtime {expected}-")
    assert f"onnxruntime-int8 1000.00 ms, {stages['tinysafe'].info.runtime} {1000 * seconds:.2f} ms" in found.why


def test_auto_measures_what_a_window_of_each_length_takes(stages, monkeypatch):
    monkeypatch.setattr(choice, "BUDGET_S", 0.05)
    both = {"onnxruntime": load_stage("tinysafe"), "openvino": stages["tinysafe"]}
    taken = choice.measure(both)
    assert set(taken) == set(both)
    assert all(0 < seconds < 10 for seconds in taken.values())


def test_auto_leaves_what_comes_to_other_scores(folder, monkeypatch):
    monkeypatch.setattr("stages.encoder.OPENVINO_TOLERANCE", 0.0)
    found = choice.fastest(folder)
    assert found.runtime == "onnxruntime"
    assert "golden texts differ" in found.why


def test_without_the_extra_the_error_names_it_and_auto_goes_on():
    code = WITHOUT + (
        "from stages.errors import DependencyError\n"
        "from stages.fastest import fastest\n"
        "from stages.registry import load_stage\n"
        "found = fastest('tinysafe')\n"
        "assert found.runtime == 'onnxruntime'\n"
        "print(found.why)\n"
        "try:\n    load_stage('tinysafe', runtime='openvino')\n"
        "except DependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert "pip install 'safety-cascade[openvino]'" in done.stdout, done.stderr
    assert "tinysafe: runtime onnxruntime-int8 (runtime openvino: openvino is missing" in done.stdout


def test_the_server_refuses_before_it_loads_anything(monkeypatch):
    monkeypatch.setattr("cascade.cli.runtimes.find_spec", lambda name: None)
    for option in ("--runtime", "--stage1-runtime"):
        result = CliRunner().invoke(app, ["serve", "--port", "0", option, "openvino"])
        assert isinstance(result.exception, DependencyError)
        assert str(result.exception).startswith(f"{option} openvino: ")
        assert "safety-cascade[openvino]" in str(result.exception)


def test_the_default_goes_without_it():
    code = "import sys; from cascade.build import build_pipeline; build_pipeline(); print('openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_nothing_is_sent_or_written_when_a_model_is_loaded(runtime, request, tmp_path):
    if runtime == "openvino":
        request.getfixturevalue("stages")  # or skips
    code = (
        "import sys\n"
        "def audit(event, arguments):\n"
        "    if event.startswith('socket.') or event == 'open' and set(str(arguments[1])) & set('wax+'):\n"
        "        print(event, arguments)\n"
        "sys.addaudithook(audit)\n"
        "open(sys.argv[1], 'w').close()\n"  # the hook hears it
        "from stages.registry import load_stage\n"
        "load_stage('tinysafe', runtime=sys.argv[2])\n"
    )
    mark, home = str(tmp_path / "mark"), tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, mark, runtime],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},  # ONNX Runtime tells nothing from CI anyway
    )
    (line,) = done.stdout.splitlines()
    assert mark in line, done.stderr
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


def test_the_command_says_what_it_chose(caplog):
    caplog.set_level("INFO", "cascade.cli.runtimes")
    runtime = runtimes.chosen("tinysafe", "auto", allow_score_drift=False)
    (message,) = (record.getMessage() for record in caplog.records if record.name == "cascade.cli.runtimes")
    assert message.startswith(f"tinysafe: runtime {runtime}-")
    assert runtimes.chosen("none", "auto", allow_score_drift=False) == "onnxruntime"


def test_models_shows_the_runtime(stages):
    (listed,) = json.loads(CliRunner().invoke(app, ["models", "list", "tinysafe", "--json"]).stdout)
    assert listed["runtime"] == "onnxruntime-int8"
    done = CliRunner().invoke(app, ["models", "verify", "tinysafe", "--runtime", "openvino", "--json"])
    assert json.loads(done.stdout)[0]["detail"].endswith(f"on {stages['tinysafe'].info.runtime}")
