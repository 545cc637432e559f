"""Bringing models in: checkpoints become bundles, hub repositories and manifests become folders. Never imported where
bundles serve.
"""
