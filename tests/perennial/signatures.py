"""Loads one function of a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_signature(folder: Path, name: str = "serve_examples") -> Any:
    """A SavedModel's function of this name; the model lives as long as the function."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[name]
    function.model = loaded
    return function
