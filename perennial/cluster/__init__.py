"""The cluster: runs and schedules of a project on Kubeflow Pipelines."""
