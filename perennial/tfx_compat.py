"""Workarounds for the TFX libraries, each in one place with its reason."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any


def prepare_process() -> None:
    """Settings that must stand before a heavy library is imported in this process.

    Great Expectations and MLflow report usage over the network unless told not to; TensorFlow and
    Keras print start-up notes that bury what a person should read.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Beam makes a command-line parser of hundreds of options for each look at a pipeline's options,
    # and Python then searches the disk for a translation of each one's help: a seventh of the time
    # of a small pipeline.
    os.environ["LANGUAGE"] = "C"


# They are written in TensorFlow's operations, or run outside its graphs; the product's own loops
# over steps are the functions that tf.function is given, which it translates in any case.
_UNCONVERTED = (
    "google.protobuf",
    "tensorflow_metadata",
    "tensorflow_transform",
    "tfx_bsl",
    "perennial",
    "components",
)


def spare_conversions() -> None:
    """Has TensorFlow trace the product and the TFX libraries as they are.

    Call it in each process that traces.

    AutoGraph translates the source of every function that it meets, in each process anew: three
    quarters of the processor time of training a small model. Functions of the user's module are
    translated as before. Source of the rules: tensorflow/python/autograph/core/config.py, which has
    the same for NumPy, Keras and TensorFlow itself.
    """
    from tensorflow.python.autograph.core import config

    known = config.CONVERSION_RULES
    new = [name for name in _UNCONVERTED if not any(rule.matches(name) for rule in known)]
    config.CONVERSION_RULES = (*map(config.DoNotConvert, new), *known)


def import_tfdv() -> Any:
    """Imports TensorFlow Data Validation.

    On Python 3.11 the newest TFDV with a usable wheel is 1.16.1, which imports
    `tfx_bsl.arrow.sql_util` at its top; tfx-bsl 1.21 dropped that module. TFDV needs it only for
    SQL slicing, which is not used here, so an empty module stands in for it.
    """
    prepare_process()
    name = "tfx_bsl.arrow.sql_util"
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        sys.modules[name] = ModuleType(name)
    return importlib.import_module("tensorflow_data_validation")
