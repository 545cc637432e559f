"""Programs that check the running product against an independent computation."""

import serving  # noqa: F401 - it keeps ONNX Runtime from telling others what runs, if imported first
