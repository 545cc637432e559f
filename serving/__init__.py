"""The serving container, and the training of what it serves.

ONNX Runtime's wheels tell Microsoft what they run, unless the environment says no before the first import.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
