"""The peers: which packages each needs, what starts it, and how a text is sent to it.

All but two score with our own stage class, windows, session options and all, so that only the serving differs. Infinity
and the transformers pipeline run the same network file through their own code, and cut texts off at 512 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

STAGE = ("numpy>=2,<3", "onnxruntime==1.31.*", "pydantic>=2.14,<3", "tokenizers==0.23.*")  # what our stage class needs
CUT = "cuts texts off at 512 tokens"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server.

    Attributes:
        name: as the table has it.
        distribution: whose version is reported.
        packages: for pip.
        command: after the environment's python; {port}, {batch} and {apps} are filled in.
        path: where texts are posted.
        body: the request of a text.
        read: the unsafe logit in a reply; raises LookupError, TypeError, ValueError or StopIteration.
        hub: it runs in a folder with the model as the hub has them, which ``hub_folder.py`` makes in its environment.
        note: for the table.
    """

    name: str
    distribution: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str = "/predict"
    body: Callable[[str], object] = lambda text: {"text": text}
    read: Callable[[Any], float] = lambda reply: float(reply["unsafe"])
    hub: bool = False
    note: str = ""


def _of_two(probability: float) -> float:
    """The logit u of the softmax's probability of u beside -u."""
    bounded = min(max(probability, 1e-12), 1 - 1e-12)
    return log(bounded / (1 - bounded)) / 2


def _own(app: str) -> tuple[str, ...]:
    """The command of one of our programs."""
    return (f"{{apps}}/{app}", "{port}", "{batch}")


PEERS = (
    Peer(
        "FastAPI + onnxruntime",
        "fastapi",
        ("fastapi", "uvicorn", "uvloop", "httptools", *STAGE),
        _own("fastapi_onnx.py"),
    ),
    Peer("LitServe", "litserve", ("litserve", *STAGE), _own("lit_serve.py")),
    Peer("mosec", "mosec", ("mosec", *STAGE), _own("mosec_server.py"), path="/inference"),
    Peer(
        "BentoML",
        "bentoml",
        ("bentoml", *STAGE),
        ("-m", "bentoml", "serve", "bento:Model", "--host", "127.0.0.1", "--port", "{port}", "--working-dir", "{apps}"),
        body=lambda text: {"texts": [text]},
        read=lambda reply: float(reply[0]),
    ),
    Peer("Ray Serve", "ray", ("ray[serve]", *STAGE), _own("ray_server.py"), path="/"),
    Peer(
        "infinity",
        "infinity-emb",
        ("torch", "infinity-emb[server,optimum,torch]"),
        (
            *("-m", "infinity_emb.cli", "v2", "--model-id", ".", "--served-model-name", "stage1"),
            *("--engine", "optimum", "--device", "cpu", "--batch-size", "{batch}", "--no-bettertransformer"),
            *("--no-model-warmup", "--log-level", "warning", "--host", "127.0.0.1", "--port", "{port}"),
        ),
        path="/classify",
        body=lambda text: {
            "model": "stage1",
            "input": [text],
        },
        read=lambda reply: _of_two(next(found["score"] for found in reply["data"][0] if found["label"] == "unsafe")),
        hub=True,
        note=CUT,
    ),
    Peer(
        "FastAPI + transformers pipeline",
        "transformers",
        ("torch", "optimum-onnx[onnxruntime]", "fastapi", "uvicorn", "uvloop", "httptools"),
        _own("fastapi_pipeline.py"),
        hub=True,
        note=CUT,
    ),
)
