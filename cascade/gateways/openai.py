"""OpenAI's ``POST /v1/moderations``: *its JSON* -> checks; answers -> its 13 categories, by the table below.

    its category             what it is scored by here: the highest of these hazards and categories of stage 1
    -----------------------  --------------------------------------------------------------------------------
    harassment               defamation, privacy; harassment
    hate                     hate; hate
    illicit                  nonviolent_crimes, specialized_advice, intellectual_property, indiscriminate_weapons,
                             elections, code_interpreter_abuse; illegal_activity, dangerous_info
    illicit/violent          indiscriminate_weapons
    self-harm                self_harm; self_harm
    sexual                   sex_crimes, child_exploitation, sexual_content; sexual
    sexual/minors            child_exploitation
    violence                 violent_crimes, indiscriminate_weapons; violence
    harassment/threatening   the lower of harassment and violence
    hate/threatening         the lower of hate and violence

Nothing here scores self-harm/intent, self-harm/instructions and violence/graphic. What was not scored has the score 0
and, in ``category_applied_input_types``, no input. ``flagged`` is the verdict UNSAFE and nothing else; a category is
flagged if a hazard of it is or, where no hazard was named, if its score is the highest. So ``flagged`` is true exactly
if one of the categories is, but where the policy blocks what no stage could score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from cascade.content import check_request
from cascade.errors import InvalidRequestError
from cascade.gateways.context import Refused
from cascade.gateways.forms import detail
from cascade.gateways.json_request import name_of
from cascade.jsonform import to_dict
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, BatchCheckResponse
from cascade.v1.check_pb2 import VERDICT_UNSAFE, CheckRequest, CheckResponse

MODEL = "cascade"  # for who names none; whatever is named is answered with, and the policy's models judge
NOTHING: tuple[str, ...] = ()
# By OpenAI's category: hazards, and TinySafe's categories.
SOURCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "harassment": (("defamation", "privacy"), ("harassment",)),
    "harassment/threatening": (NOTHING, NOTHING),
    "hate": (("hate",), ("hate",)),
    "hate/threatening": (NOTHING, NOTHING),
    "illicit": (
        (
            "nonviolent_crimes",
            "specialized_advice",
            "intellectual_property",
            "indiscriminate_weapons",
            "elections",
            "code_interpreter_abuse",
        ),
        ("illegal_activity", "dangerous_info"),
    ),
    "illicit/violent": (("indiscriminate_weapons",), NOTHING),
    "self-harm": (("self_harm",), ("self_harm",)),
    "self-harm/instructions": (NOTHING, NOTHING),
    "self-harm/intent": (NOTHING, NOTHING),
    "sexual": (("sex_crimes", "child_exploitation", "sexual_content"), ("sexual",)),
    "sexual/minors": (("child_exploitation",), NOTHING),
    "violence": (("violent_crimes", "indiscriminate_weapons"), ("violence",)),
    "violence/graphic": (NOTHING, NOTHING),
}
PARAMS = {"text": "input", "requests": "input"}  # by the field of a check
BOTH = {"harassment/threatening": ("harassment", "violence"), "hate/threatening": ("hate", "violence")}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for moderation: the checks that it means, and how they are answered."""

    id: str
    model: str
    request: CheckRequest | BatchCheckRequest

    def answer(self, answer: Message) -> dict[str, Any]:
        """The answer in OpenAI's form.

        Raises:
            Refused: an item of a batch has an error; OpenAI's form has none for a part of the texts.
        """
        responses = [answer] if isinstance(answer, CheckResponse) else _responses(answer)
        return {"id": self.id, "model": self.model, "results": [_result(response) for response in responses]}


def read(body: dict[str, Any], policy: str = "") -> Asked:
    """A request for moderation, under a policy; empty is the server's default.

    Raises:
        InvalidRequestError: it is none; ``field`` is OpenAI's ``param``.
    """
    for key in body.keys() - {"input", "model"}:
        raise InvalidRequestError(f"unrecognized request argument supplied: {name_of(key)}", name_of(key))
    model, request_id = body.get("model"), f"modr-{uuid4().hex}"
    if model is not None and not isinstance(model, str):
        raise InvalidRequestError("model must be a string", "model")
    texts = _texts(body.get("input"))
    if isinstance(texts, str):
        return Asked(request_id, model or MODEL, check_request(texts, request_id=request_id, policy=policy))
    checks = [
        check_request(text, request_id=f"{request_id}/{index}", policy=policy) for index, text in enumerate(texts)
    ]
    return Asked(request_id, model or MODEL, BatchCheckRequest(requests=checks))


def models(loaded: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The loaded models, which are the contract's messages in JSON, as a list in OpenAI's form."""
    form = {"object": "model", "created": 0, "owned_by": MODEL}
    return {"object": "list", "data": [{"id": model["name"], **form, **model} for model in loaded]}


def as_error(status: Status, code: int) -> dict[str, Any]:
    """An error in OpenAI's form."""
    fields = detail(status, BadRequest).field_violations
    kind = "server_error" if code >= 500 else "requests" if code == 429 else "invalid_request_error"
    named = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
    reason = named.get(code) or detail(status, ErrorInfo).reason.lower() or None
    param = PARAMS.get(fields[0].field, fields[0].field) if fields else None
    return {"error": {"message": status.message, "type": kind, "param": param, "code": reason}}


def _texts(given: Any) -> str | list[str]:
    """The text of a string, or of parts, which are one content; or the texts of a list."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise InvalidRequestError("input must be a string, an array of strings, or an array of parts", "input")
    if all(isinstance(one, str) for one in given):
        return given
    # One after the other, so that what is split over parts is read as one.
    return "\n".join(_part(one, f"input[{index}]") for index, one in enumerate(given))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        raise InvalidRequestError(f"{where} is an image: this server judges text only", f"{where}.type")
    if kind != "text":
        raise InvalidRequestError(f"{where} must be a string, as all of them are, or a part of the type text", where)
    for key in part.keys() - {"type", "text"}:
        field = f"{where}.{name_of(key)}"
        raise InvalidRequestError(f"{field} is no field of a part of the type text", field)
    if not isinstance(part.get("text"), str):
        raise InvalidRequestError(f"{where}.text must be a string", f"{where}.text")
    text: str = part["text"]
    return text


def _responses(batch: Message) -> list[CheckResponse]:
    assert isinstance(batch, BatchCheckResponse), "several texts are a batch"
    for index, item in enumerate(batch.items):
        if item.HasField("error"):
            message = f"input[{index}]: {item.error.message}"
            raise Refused(Status(code=item.error.code, message=message, details=item.error.details))
    return [item.response for item in batch.items]


def _result(response: CheckResponse) -> dict[str, Any]:
    """One text's result; what OpenAI's form has no place for is in ``cascade``, in the contract's own."""
    scores = _scores(response)
    flagged = response.verdict == VERDICT_UNSAFE
    hazards = {hazard.slug for hazard in response.hazards if hazard.flagged}
    named = {name for name, (slugs, _) in SOURCES.items() if not hazards.isdisjoint(slugs)}
    named |= {name for name, both in BOTH.items() if named.issuperset(both)}
    if not named and scores:
        named = {max(scores, key=scores.__getitem__)}
    return {
        "flagged": flagged,
        "categories": {name: flagged and name in named for name in SOURCES},
        "category_scores": {name: scores.get(name, 0.0) for name in SOURCES},
        "category_applied_input_types": {name: ["text"] if name in scores else [] for name in SOURCES},
        "cascade": to_dict(response),
    }


def _scores(response: CheckResponse) -> dict[str, float]:
    """Scores by OpenAI's category, of those that something here scores."""
    hazards = {hazard.slug: hazard.probability for hazard in response.hazards if hazard.HasField("probability")}
    categories = {category.name: category.probability for category in response.categories}
    found = {}
    for name, (slugs, names) in SOURCES.items():
        known = [hazards[slug] for slug in slugs if slug in hazards]
        known += [categories[label] for label in names if label in categories]
        if known:
            found[name] = max(known)
    return found | {name: min(found[a], found[b]) for name, (a, b) in BOTH.items() if a in found and b in found}
