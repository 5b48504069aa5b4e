"""Plain FastAPI around a transformers pipeline, whose model ONNX Runtime runs (optimum)."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import onnxruntime
import uvicorn
from fastapi import FastAPI
from optimum.onnxruntime import ORTModelForSequenceClassification
from pydantic import BaseModel
from transformers import AutoTokenizer, pipeline

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
folder = "."
model = ORTModelForSequenceClassification.from_pretrained(folder, session_options=options)
tokenizer = AutoTokenizer.from_pretrained(folder)
classify = pipeline("text-classification", model=model, tokenizer=tokenizer, function_to_apply="none")
app, pool = FastAPI(), ThreadPoolExecutor(1)


class Request(BaseModel):
    """A text."""

    text: str


def score(text: str) -> float:
    """The unsafe logit of a text."""
    return next(
        float(found["score"]) for found in classify(text, truncation=True, top_k=None) if found["label"] == "unsafe"
    )


@app.post("/predict")
async def predict(request: Request) -> dict[str, float]:
    """Scores a text."""
    return {"unsafe": await asyncio.get_running_loop().run_in_executor(pool, score, request.text)}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
