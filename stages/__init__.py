"""What a classifier is: taxonomies, the Stage protocol, runtimes, and one folder for each system."""

import os

# The wheels of ONNX Runtime report to Microsoft what models they load, unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
