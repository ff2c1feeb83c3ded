"""Pipelines: what runs and in what order, as Kubeflow Pipelines has it."""
