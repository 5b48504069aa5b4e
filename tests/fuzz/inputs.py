"""What strangers may send: texts full of tricks, messages and their ruins, policy files and files of data."""

import gzip
import json

from hypothesis import strategies as st

from cascade.policy import default_policy
from cascade.v1 import cascade_service_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2

SERVICES = [
    service
    for file in (cascade_service_pb2, policy_service_pb2, model_service_pb2, stage_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}

# Pieces that some step of the normalisation looks for, and those that trip up whoever is careless.
PIECES = (
    "\u200b\u200d\ufeff", "\u202e", "\u2066", "e\u0301\u0301\u0301", "\u0345", "ﬀ", "ℌ𝔢𝔩𝔭", "ｆｕｌｌ", "раураl", "Ω",
    "k1ll", "$h0t", "b o m b", "b.o.m.b", "heeeeelp", "AlTeRnAtE", "aGVsbG8gdGhlcmUgZnJpZW5k",
    "68656c6c6f20746865726521", "%68%65%6c%6c",
    "uryyb gurer", "=", "==", "%", "%zz", "\x00", "\r\n", "\t", "¶", "|", "¶ user ¶",
    "👩‍👩‍👧‍👦", "🇩🇪", "İ", "ß", "ǆ", "한국어", "日本語", "ᎣᏏᏲ",
    "\U0010ffff", "\ufffe", "\U000e0041", "ا" * 9, "how to", "a", " ", "0", "1337", "x" * 70, "z̸̡͝",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=12).map("".join) | st.text(max_size=60)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "", "narrator"])
SLUGS = st.sampled_from(["hate", "violent_crimes", "boredom", ""])
SCALARS = st.sampled_from(
    ["0", "-1", "1", "0.5", "nan", "inf", "-0.0", "1e999", "9" * 5000, "true", '"x"', '""', "[]", "{}", "[[1]]",
     "1979-05-27T07:32:00Z", "0x" + "f" * 80, "'''\n'''", "[" * 3000, "{a=" * 500,
     '"\\ud800"', '"\\U00110000"', "", "="],
)  # fmt: skip


def options(draw):
    return {
        "explain": draw(st.booleans()),
        "bypass_cache": draw(st.booleans()),
        "hazards": draw(st.lists(SLUGS, max_size=2)),
        "adapter": draw(st.sampled_from(["", "", "nobody"])),
    }


@st.composite
def checks(draw):
    """A CheckRequest as keywords; well formed, not always valid."""
    content = draw(
        st.one_of(
            st.builds(lambda text: {"text": text}, TEXTS),
            st.builds(lambda prompt, response: {"exchange": {"prompt": prompt, "response": response}}, TEXTS, TEXTS),
            st.lists(st.builds(lambda role, text: {"role": role, "text": text}, ROLES, TEXTS), max_size=4).map(
                lambda turns: {"conversation": {"turns": turns}}
            ),
            st.just({}),
        )
    )
    named = {"request_id": draw(st.text(max_size=5)), "policy": draw(st.sampled_from(["", "", "default", "nobody"]))}
    return content | named | ({"options": options(draw)} if draw(st.booleans()) else {})


DEFAULT = [line for line in default_policy().toml.splitlines() if len(line) < 200]  # without the numbers of networks
WINDOWS = st.lists(st.builds(lambda ids: {"ids": ids}, st.lists(st.integers(-5, 2**31 - 1), max_size=3)), max_size=2)
POLICY_TEXTS = st.deferred(lambda: policies())
FIELDS = {
    "CheckRequest": checks(),
    "BatchCheckRequest": st.lists(checks(), max_size=3).map(lambda items: {"requests": items}),
    "CheckStreamRequest": checks().map(lambda check: {"request": check}),
    "ModerateStreamRequest": st.one_of(
        st.builds(lambda prompt, policy: {"start": {"prompt": prompt, "policy": policy}}, TEXTS, st.just("")),
        TEXTS.map(lambda delta: {"delta": delta}),
        st.just({"end": {}}),
    ),
    "ScoreRequest": st.builds(
        lambda stage, texts, windows: {"stage": stage, "texts": texts, "windows": windows},
        st.sampled_from(["stage1", "stage2", "", "stage3"]), st.lists(TEXTS, max_size=2), WINDOWS,
    ),
    "DescribeRequest": st.sampled_from(["stage1", "stage2", "", "x"]).map(lambda stage: {"stage": stage}),
    "GetPolicyRequest": TEXTS.map(lambda name: {"name": name}),
    "ValidatePolicyRequest": POLICY_TEXTS.map(lambda toml: {"toml": toml}),
    "UpdatePolicyRequest": POLICY_TEXTS.map(lambda toml: {"toml": toml, "expected_revision": "0" * 16}),
    "ListPolicyRevisionsRequest": st.builds(
        lambda size, token: {"page_size": size, "page_token": token},
        st.integers(-(2**31), 2**31 - 1), st.text(max_size=9),
    ),
    "RollbackPolicyRequest": TEXTS.map(lambda revision: {"revision": revision, "expected_revision": revision}),
}  # fmt: skip


@st.composite
def ruined(draw, data):
    """Bytes with a few of them changed, cut out, doubled, or put in."""
    made = bytearray(draw(data))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(made)))
        what, piece = draw(st.sampled_from("+-=*<")), draw(st.binary(min_size=1, max_size=6))
        if what == "+":
            made[at:at] = piece
        elif what == "-":
            del made[at : at + len(piece)]
        elif what == "=":
            made[at : at + len(piece)] = piece
        elif what == "*":
            made[at:at] = made[max(0, at - 9) : at]
        else:
            del made[at:]
    return bytes(made)


def nested(tag_and_data):
    """A field of a message on the wire, with a length that may lie."""
    tag, data, more = tag_and_data
    return bytes([tag, min(127, len(data) + more)]) + data


TABLES = st.sampled_from(["stage1", "hazards.hate", "models", "certificate", "x.y", ""])
WIRE = st.recursive(
    st.binary(max_size=8),
    lambda inner: st.lists(
        st.tuples(st.integers(0, 127), inner, st.sampled_from([0, 0, 0, 1, 100])).map(nested), max_size=4
    ).map(b"".join),
    max_leaves=6,
)


def messages(kind):
    """Bytes for a message of a kind: good, ruined, or only in the wire's form."""
    made = FIELDS.get(kind.DESCRIPTOR.name, st.just({})).map(lambda fields: kind(**fields).SerializeToString())
    return st.one_of(made, ruined(made), WIRE)


@st.composite
def policies(draw):
    """A policy file: the default one with some values, lines or tables changed; or anything."""
    lines = list(DEFAULT)
    for _ in range(draw(st.integers(0, 3))):
        at, what = draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from("=-*?!"))
        if what == "=":
            lines[at] = f"{lines[at].partition('=')[0]}= {draw(SCALARS)}"
        elif what == "-":
            del lines[at : at + 1]
        elif what == "*":
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif what == "!":
            lines.insert(
                at, f"[{draw(st.sampled_from(['stage1', 'hazards.hate', 'models', 'certificate', 'x.y', '']))}]"
            )
        else:
            lines[at] = draw(TEXTS)
        lines = lines or [""]
    return "\n".join(lines) + "\n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ROWS = st.dictionaries(
    st.sampled_from(["id", "text", "response", "unsafe", "labels", "categories", "lang", "result", "error", "more"]),
    VALUES | TEXTS | st.sampled_from([0, 1]),
    max_size=7,
)
DEEP = st.sampled_from([b"[" * 2000, b'{"text": ' * 2000, b'{"text": "\\ud800"}', b'{"id": ' + b"9" * 5000 + b"}"])
LINES = st.one_of(ROWS.map(lambda row: json.dumps(row).encode()), DEEP, st.binary(max_size=20))
JSONL = ruined(st.lists(LINES, max_size=4).map(b"\n".join))
CELLS = st.sampled_from(["", '"', '""', "a,b", "\n", "\r", "\x00", "text"]) | st.text(max_size=6)
CSV = ruined(
    st.builds(
        lambda header, rows: "\n".join(",".join(row) for row in [header, *rows]).encode(),
        st.lists(st.sampled_from(["id", "text", "response", "x"]), max_size=4),
        st.lists(st.lists(CELLS, max_size=5), max_size=3),
    )
)
GZIP = ruined(JSONL.map(lambda data: gzip.compress(data, mtime=0)))
SHA = f'sha256 = "{64 * "0"}"'
KEYED = SCALARS.map(lambda value: f"daily = {value}")
TOKENS = ruined(
    st.lists(
        st.sampled_from(["[a]", SHA, 'scopes = ["check"]', "expires = 2030-01-01"]) | TEXTS | KEYED, max_size=6
    ).map(lambda lines: "\n".join(lines).encode())
)
BODIES = st.one_of(
    checks().map(lambda body: json.dumps(body).encode()),
    st.dictionaries(st.sampled_from(["input", "model", "text", "messages", "prompt", "x"]), VALUES).map(
        lambda body: json.dumps(body).encode()
    ),
    DEEP, st.binary(max_size=30),
)  # fmt: skip
