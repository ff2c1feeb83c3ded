"""A stand-in of a cluster's API server, made from the custom resource definitions of Kubeflow Trainer."""
