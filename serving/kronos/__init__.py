"""The Kronos family: bars become tokens (binary spherical quantisation), tokens a context, the context an embedding.

`windows` prepares what a graph takes and `encoder` runs one: numpy and ONNX Runtime. `network` is the torch module
that loads published checkpoints, `training` makes the stand-in that comes with the project: neither is imported where
bundles serve.
"""
