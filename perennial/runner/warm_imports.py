"""Imported once by the process that steps are forked from: everything heavy, nothing run.

Importing TensorFlow, Beam, TFDV, TFT, Great Expectations and MLflow takes about 18 s. A step that is forked
from a process that has imported them starts at once.
"""

from perennial.processes import die_with_parent
from perennial.tfx_compat import import_tfdv, prepare_process

die_with_parent()  # a run that is killed must not leave this importing
prepare_process()

import apache_beam  # noqa: E402, F401
import great_expectations  # noqa: E402, F401
import keras  # noqa: E402, F401
import kfp.dsl.executor_main  # noqa: E402, F401
import kserve  # noqa: E402, F401
import matplotlib.pyplot  # noqa: E402, F401
import mlflow  # noqa: E402, F401
import tensorflow  # noqa: E402, F401
import tensorflow_transform.beam  # noqa: E402, F401
import tfx_bsl.public.tfxio  # noqa: E402, F401

import_tfdv()
