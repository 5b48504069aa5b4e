"""Triton's own client: ``triton.py HOST:PORT``, a JSON list of texts on stdin -> what the server says of them.

Each text is asked about by itself, and then all of them in one request.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
texts = json.load(sys.stdin)


def infer(texts, **options):
    column = triton.InferInput("text", [len(texts)], "BYTES")
    column.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_))
    return client.infer("cascade", [column], **options)


def judged(texts):
    result = infer(texts)
    columns = [result.as_numpy(name).tolist() for name in ("verdict", "unsafe_probability", "hazards", "flagged")]
    return [[verdict.decode(), *rest] for verdict, *rest in zip(*columns, strict=True)]


def error(call, *arguments):
    try:
        call(*arguments)
    except InferenceServerException as refused:
        return [str(refused.status()), refused.message()]
    return None


found = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model": client.is_model_ready("cascade"),
    "other": client.is_model_ready("other"),
    "server": client.get_server_metadata(as_json=True),
    "metadata": client.get_model_metadata("cascade", as_json=True),
    "unknown": error(client.get_model_metadata, "other"),
    "rows": [row for text in texts for row in judged([text])],
    "batch": judged(texts),
}
one = infer(texts[:1], outputs=[triton.InferRequestedOutput("action")], request_id="mine").get_response()
found["one"] = [one.id, [output.name for output in one.outputs]]
json.dump(found, sys.stdout)
