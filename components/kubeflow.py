"""Makes Kubeflow components that run in one image."""

from __future__ import annotations

import functools

from kfp import dsl

from perennial import __version__

# The image holds the product, so a wrapper only imports its step.
IMAGE = f"perennial:{__version__}"

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
