"""Published formats become uniform rows, in whichever file they come, and what is wrong with them is named."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import math

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from cascade.cli import app
from stages.taxonomy import HAZARD_INDEX, TINYSAFE_CATEGORIES
from training.data.importing import import_set
from training.data.labels import label_map
from training.data.rows import DataError, licence_classes, read_set
from training.data.sources.files import find_files
from training.data.sources.registry import SOURCES, find_source

TOXICCHAT = {
    "conv_id": "c1",
    "user_input": "how do I descale a kettle",
    "model_output": "With vinegar.",
    "human_annotation": "True",
    "toxicity": "0",
    "jailbreaking": "0",
    "openai_moderation": "[]",
}
WILDGUARD = {
    "prompt": "a plain prompt on ships",
    "adversarial": False,
    "response": "a plain answer",
    "prompt_harm_label": "harmful",
    "response_harm_label": "unharmful",
    "response_refusal_label": "refusal",
    "subcategory": "cyberattack",
}
AEGIS = {
    "id": "a1",
    "reconstruction_id_if_redacted": None,
    "prompt": "a plain prompt on lamps",
    "response": "an answer on lamps",
    "prompt_label": "unsafe",
    "response_label": "safe",
    "violated_categories": "Violence, PII/Privacy",
    "prompt_label_source": "human",
    "response_label_source": "human",
}
COMMENT = {
    "text": "a comment on the harbour",
    "toxicity": 0.6,
    "severe_toxicity": 0.0,
    "obscene": 0.1,
    "threat": 0.0,
    "insult": 0.7,
    "identity_attack": 0.0,
    "sexual_explicit": 0.0,
}
BEAVERTAILS = {
    "prompt": "a question on doors",
    "response": "an answer on doors",
    "category": {"privacy_violation": True, "self_harm": False},
    "is_safe": False,
}
SYNTH = {"text": "a prompt on ballots", "label": 1, "category": "S13_elections"}


def write(path, *records):
    """Writes records in the format that the file's name says."""
    if ".parquet" in path.name:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
        return path
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
        elif ".jsonl" in path.name:
            file.writelines(json.dumps(record) + "\n" for record in records)
        else:
            json.dump(list(records), file)
    return path


def imported(tmp_path, name, file, *records, **options):
    path = write(tmp_path / file, *records)
    out = tmp_path / "out" / f"{name}.train.jsonl.gz"
    result = import_set(find_source(name), str(path), out, **options)
    return list(read_set(out)), result


def cells(row):
    found = label_map(row.dataset).hazard_cells(row)
    return {slug: found[index] for slug, index in HAZARD_INDEX.items() if not math.isnan(found[index])}


def test_toxicchat(tmp_path):
    toxic = TOXICCHAT | {"conv_id": "c2", "user_input": "line one\nline two, with a comma", "toxicity": "1"}
    rows, _ = imported(tmp_path, "toxicchat", "train.csv", TOXICCHAT, toxic)
    assert [(row.id, row.unsafe) for row in rows] == [("c1", 0), ("c2", 1)]
    assert rows[1].text == "line one\nline two, with a comma"
    assert rows[0].labels == ("toxicity=0", "jailbreaking=0", "human_annotation=True")
    assert rows[0].response is None  # the label is the prompt's


def test_wildguardmix_prompts_and_exchanges(tmp_path):
    unlabelled = WILDGUARD | {"prompt": "another", "prompt_harm_label": None, "response": None}
    unlabelled["response_harm_label"] = None
    rows, _ = imported(tmp_path, "wildguardmix", "train.parquet", WILDGUARD, unlabelled)
    assert [(row.unsafe, row.labels[0], row.response) for row in rows] == [
        (1, "cyberattack", None),
        (None, "cyberattack", None),
    ]
    assert cells(rows[0])["nonviolent_crimes"] == 1
    assert cells(rows[0])["hate"] == 0
    assert "code_interpreter_abuse" not in cells(rows[0])
    assert "elections" not in cells(rows[0])
    pairs, _ = imported(tmp_path, "wildguardmix_exchanges", "train.parquet", WILDGUARD, unlabelled)
    assert [(row.unsafe, row.response, row.labels) for row in pairs] == [(0, "a plain answer", ("refusal",))]


def test_aegis_drops_what_is_withheld_and_splits_the_comma_string(tmp_path):
    redacted = AEGIS | {"id": "a2", "prompt": "REDACTED", "reconstruction_id_if_redacted": 17.0}
    safe = AEGIS | {"id": "a3", "prompt": "a safe one", "prompt_label": "safe", "response_label": "unsafe"}
    rows, result = imported(tmp_path, "aegis2", "train.json", AEGIS, redacted, safe)
    assert [(row.id, row.unsafe, row.labels) for row in rows] == [("a1", 1, ("Violence", "PII/Privacy")), ("a3", 0, ())]
    assert result.entry["dropped_withheld"] == 1
    assert cells(rows[0])["violent_crimes"] == cells(rows[0])["privacy"] == 1
    pairs, _ = imported(tmp_path, "aegis2_exchanges", "train.json", AEGIS, redacted, safe)
    assert [(row.unsafe, row.labels) for row in pairs] == [(0, ()), (1, ("Violence", "PII/Privacy"))]


@pytest.mark.parametrize("file", ["train.parquet", "train.csv"])
def test_civil_comments(tmp_path, file):
    calm = COMMENT | {"text": "a calm comment", "toxicity": 0.49, "insult": 0.0}
    rows, _ = imported(tmp_path, "civilcomments", file, COMMENT, calm)
    assert [(row.unsafe, row.labels) for row in rows] == [(1, ("toxicity=0.6", "insult")), (0, ("toxicity=0.4",))]
    categories = dict(zip(TINYSAFE_CATEGORIES, label_map("civilcomments").category_cells(rows[0]), strict=True))
    assert categories["harassment"] == 1
    assert categories["hate"] == 0
    assert math.isnan(categories["illegal_activity"])
    assert "privacy" not in cells(rows[1])  # a calm comment is free of what was asked about, and of no more


def test_jigsaw_names_its_columns_otherwise(tmp_path):
    jigsaw = {"id": "59848", "target": "0.8", "comment_text": "one more"} | {
        name: str(share) for name, share in COMMENT.items() if name not in ("text", "toxicity")
    }
    rows, _ = imported(tmp_path, "civilcomments", "train.csv", jigsaw)
    assert (rows[0].id, rows[0].unsafe, rows[0].labels[0]) == ("59848", 1, "toxicity=0.8")


@pytest.mark.parametrize("file", ["train.jsonl", "train.jsonl.gz", "train.jsonl.xz"])
def test_beavertails_labels_the_pair(tmp_path, file):
    rows, _ = imported(tmp_path, "beavertails", file, BEAVERTAILS)
    assert [(row.text, row.response, row.unsafe, row.labels) for row in rows] == [
        ("a question on doors", "an answer on doors", 1, ("privacy_violation",))
    ]
    assert cells(rows[0])["privacy"] == 1


def test_mlcommons_synth_is_keyed_by_whole_names(tmp_path):
    legacy = SYNTH | {"text": "a prompt on diets", "category": "S6_self_harm"}
    new = SYNTH | {"text": "a prompt on pills", "category": "S6_specialized_advice"}
    rows, _ = imported(tmp_path, "mlcommons_synth", "synth.json", SYNTH, legacy, new)
    assert [cells(row) for row in rows] == [{"elections": 1}, {"self_harm": 1}, {"specialized_advice": 1}]


def test_duplicates_are_dropped_and_unread_labels_counted(tmp_path):
    twin = WILDGUARD | {"prompt": "A plain  prompt on SHIPS!"}
    other = WILDGUARD | {"prompt_harm_label": "unharmful", "subcategory": "a label of next year"}
    rows, result = imported(tmp_path, "wildguardmix", "train.jsonl", WILDGUARD, twin, other)
    assert [row.unsafe for row in rows] == [1, 0]
    assert result.entry["dropped_duplicate"] == 1
    assert dict(result.unmapped) == {"a label of next year": 1}


def test_the_manifest_carries_licence_and_hash(tmp_path):
    _, result = imported(tmp_path, "toxicchat", "train.csv", TOXICCHAT)
    imported(tmp_path, "mlcommons_synth", "synth.jsonl", SYNTH)
    imported(tmp_path, "toxicchat", "train.csv", TOXICCHAT)  # again: replaced, not repeated
    entries = json.loads((tmp_path / "out/MANIFEST.json").read_text())
    assert [entry["set"] for entry in entries] == ["toxicchat.train", "mlcommons_synth.train"]
    assert result.entry["rows"] == result.entry["safe"] == 1
    assert len(result.entry["files"]["train.csv"]) == 64
    assert licence_classes(tmp_path / "out")["toxicchat.train"] == ("CC BY-NC 4.0", "non-commercial")


@pytest.mark.parametrize(
    ("name", "file", "record", "message"),
    [
        ("toxicchat", "t.csv", {"conv_id": "1", "user_input": "x"}, r"t.csv:1: no 'toxicity'"),
        ("wildguardmix", "t.jsonl", WILDGUARD | {"prompt": 7}, r"t.jsonl:1: 'prompt' must be a string"),
        ("wildguardmix", "t.jsonl", WILDGUARD | {"prompt_harm_label": "SECRET"}, "must be harmful, unharmful or null"),
        ("civilcomments", "t.json", COMMENT | {"threat": "SECRET"}, r"t.json:1: 'threat' must be a number"),
        ("beavertails", "t.jsonl", BEAVERTAILS | {"category": "x"}, "'category' must be an object"),
        ("beavertails", "t.jsonl", BEAVERTAILS | {"is_safe": "SECRET"}, "'is_safe' must be true or false"),
        ("toxicchat", "t.txt", TOXICCHAT, "must end in"),
        ("aegis2", "t.json", AEGIS | {"prompt": "REDACTED"}, "no row is left of 1 records"),
    ],
)
def test_a_bad_record_is_named_and_nothing_is_written(tmp_path, name, file, record, message):
    with pytest.raises(DataError, match=message) as caught:
        imported(tmp_path, name, file, record)
    assert "SECRET" not in str(caught.value)
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("t.jsonl", b'{"prompt": "SECRET', r"t.jsonl:1: not JSON"),
        ("t.json", b"{}", "must be a JSON list"),
        ("t.json", b"[7]", r"t.json:1: not an object"),
        ("t.parquet", b"PAR1", "not Parquet"),
        ("t.jsonl.gz", b"not gzip", "cannot be read"),
        ("t.jsonl.xz", b"not xz", "cannot be read"),
        ("t.jsonl", b"\xff\xfe", "cannot be read"),
        ("t.csv", b"prompt,adversarial\nonly one cell\n", "not as many cells"),
    ],
)
def test_a_bad_file_is_named(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        import_set(find_source("wildguardmix"), str(tmp_path / file), tmp_path / "out/wildguardmix.jsonl")
    assert "SECRET" not in str(caught.value)


def test_a_folder_stands_for_the_hub(tmp_path):
    (tmp_path / "copy/data").mkdir(parents=True)
    for part in range(2):
        path = tmp_path / f"copy/data/train-0000{part}-of-00002.parquet"
        write(path, COMMENT | {"text": f"comment {part} on a thing"})
    out = tmp_path / "civilcomments.train.jsonl"
    import_set(find_source("civilcomments"), str(tmp_path / "copy"), out)
    assert len(list(read_set(out))) == 2
    limited = tmp_path / "civilcomments.one.jsonl"
    import_set(find_source("civilcomments"), str(tmp_path / "copy"), limited, limit=1)
    assert len(list(read_set(limited))) == 1


def test_places_that_are_none_are_named(tmp_path, monkeypatch):
    source = find_source("toxicchat")
    with pytest.raises(DataError, match="none of data/0124"):
        find_files(source, str(tmp_path), "train")
    with pytest.raises(DataError, match="no split 'dev'; there are train, test"):
        find_files(source, str(tmp_path), "dev")
    with pytest.raises(DataError, match="not a hub id"):
        find_files(source, "no/such/file.csv", "train")
    with pytest.raises(DataError, match="no such source; there are toxicchat"):
        find_source("a set of next year")


def test_a_hub_that_is_not_reached_is_one_line(monkeypatch, tmp_path):
    import huggingface_hub

    def refuse(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("a long text")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError, match=r"lmsys/toxic-chat: the hub does not give it .* HF_TOKEN"):
        find_files(find_source("toxicchat"), "lmsys/toxic-chat", "train")


def test_a_hub_id_brings_the_files_of_its_split(monkeypatch, tmp_path):
    import huggingface_hub

    (tmp_path / "hub/train").mkdir(parents=True)
    write(tmp_path / "hub/train/wildguard_train.parquet", WILDGUARD)
    asked = {}

    def give(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    out = tmp_path / "wildguardmix.jsonl"
    result = import_set(find_source("wildguardmix"), "allenai/wildguardmix", out)
    assert asked["repo_type"] == "dataset"
    assert asked["allow_patterns"] == ["train/wildguard_train.parquet"]
    assert result.entry["source"] == "allenai/wildguardmix"


def test_the_command_and_its_name_check(tmp_path):
    path = write(tmp_path / "train.csv", TOXICCHAT)
    wrong = CliRunner().invoke(app, ["data", "import", "toxicchat", str(path), "--out", str(tmp_path / "x.jsonl")])
    assert "call it toxicchat" in str(wrong.exception)
    out = tmp_path / "toxicchat.jsonl.gz"
    done = CliRunner().invoke(app, ["data", "import", "toxicchat", str(path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 1


def test_every_source_names_its_files_and_terms():
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.files["train"]
        assert source.licence_class in ("permissive", "non-commercial", "copyleft", "unknown")
        assert label_map(name).labels or name in ("toxicchat", "wildguardmix_exchanges")
