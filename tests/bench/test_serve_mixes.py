"""Length mixes and the texts that are written for them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from cascade.bench.serving.mixes import MixError, load_mixes, mix_of, read_texts, to_json
from cascade.bench.serving.texts import PROVOKING, Writer
from stages.registry import load_stage


@pytest.fixture(scope="module")
def count():
    encode = load_stage("tinysafe").encode
    return lambda text: encode(text).tokens


def test_the_mixes_that_ship_hold_lengths_alone():
    mixes = load_mixes()
    assert set(mixes) == {"chat", "guard", "comments", "long"}
    for mix in mixes.values():
        lengths = mix.lengths(2000)
        assert np.mean(lengths) == pytest.approx(mix.mean, rel=0.05)
        assert lengths == sorted(lengths)
    assert mixes["chat"].lengths(1001)[500] < mixes["guard"].lengths(1001)[500] < 200


def test_a_mix_has_the_quantiles_of_what_it_was_made_of():
    lengths = np.random.default_rng(0).geometric(0.02, 5000)
    mix = mix_of("mine", lengths)
    found = mix.lengths(5000)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(found, share) == pytest.approx(np.quantile(lengths, share), rel=0.05, abs=1)
    assert mix.mean == pytest.approx(lengths.mean(), abs=0.1)


def test_texts_have_the_wanted_length(count):
    rng = np.random.default_rng(2)
    writer = Writer(count)
    for tokens in (1, 2, 7, 30, 200, 900):
        text = writer.write(tokens, rng)
        assert text.tokens == count(text.text)
        assert max(1, tokens - 6) <= text.tokens <= max(tokens, 2)
    assert writer.write(50, rng) != writer.write(50, rng)


def test_some_texts_provoke(count):
    rng = np.random.default_rng(2)
    texts = [Writer(count, provoking=0.25).write(60, rng) for _ in range(400)]
    begins = [text.text.startswith(PROVOKING) for text in texts]
    assert 0.15 < np.mean(begins) < 0.35
    assert all(50 <= text.tokens <= 60 for text in texts)


def test_the_command_makes_a_table_without_texts(tmp_path):
    source, out = tmp_path / "mine.jsonl", tmp_path / "mixes.json"
    source.write_text("\n".join(json.dumps({"text": "kettle " * (1 + number % 40)}) for number in range(200)))
    command = [sys.executable, "-m", "cascade.cli", "bench", "mix", f"mine={source}", "--out", str(out)]
    subprocess.run(command, check=True, timeout=100)
    mix = load_mixes(out)["mine"]
    assert (mix.source, mix.texts) == ("mine.jsonl", 200)
    assert mix.tokens[0] >= 1
    assert mix.lengths(3)[1] == pytest.approx(mix.tokens[-1] / 2, rel=0.2)
    assert "kettle" not in out.read_text()


def test_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "mixes.json"
    good = mix_of("mine", [3, 4, 5])
    for broken in ("", "[]", '{"a": 1}', '{"a": {"tokens": []}}', to_json({"a": good}).replace("[3,", "[9,")):
        path.write_text(broken)
        with pytest.raises(MixError):
            load_mixes(path)
    path.write_text(to_json({"a": good}))
    assert load_mixes(path) == {"a": good}


def test_lines_without_a_text_are_refused_unquoted(tmp_path):
    path = tmp_path / "rows.jsonl"
    for line in ("a secret", '{"txt": "a secret"}', '["a secret"]'):
        path.write_text(line)
        with pytest.raises(MixError) as caught:
            list(read_texts(path))
        assert "secret" not in str(caught.value)
