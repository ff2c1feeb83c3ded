"""The model registry: versions in MLflow, their files, deployments, repair and history."""
