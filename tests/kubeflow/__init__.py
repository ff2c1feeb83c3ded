"""A Kubeflow Pipelines server for tests, made from its own swagger file."""
