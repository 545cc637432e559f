"""A training job in SageMaker's layout: ``python -m serving.training.job --root /opt/ml``."""
