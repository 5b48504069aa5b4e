"""A stage's process without torch: ``cascade.serve.stage_process`` over the ONNX form, or broken as its spec says."""

import os
import sys
import time

from cascade.errors import ModelError
from cascade.serve import stage_process
from stages.registry import load_stage


def load(spec, **options):
    if spec == "refuses":
        raise ModelError("this model is no good")
    if spec == "dies":
        os._exit(7)
    if spec == "raises":
        raise RuntimeError("a text of somebody's")
    if spec == "sleeps":
        time.sleep(600)
    print("a library says hello on stdout")
    return load_stage(spec)


stage_process.load_resident = load
stage_process.require_device = lambda device: None
stage_process._set_threads = lambda number: None
sys.exit(stage_process.main())
