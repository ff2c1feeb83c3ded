"""KServe's own server with one SavedModel, as its documentation writes one: the peer of ours.

python benchmarks/_bare_server.py FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any

_, FOLDER, PORT = sys.argv
sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from kserve import Model, ModelServer  # noqa: E402


class Bare(Model):  # type: ignore[misc]
    """Calls the SavedModel on the instances of a request."""

    def __init__(self, folder: str) -> None:
        super().__init__("digits")
        self._owner = tf.saved_model.load(folder)
        self._serve = self._owner.signatures["serving_default"]
        self.ready = True

    def predict(self, payload: Any, _headers: Any = None) -> dict[str, Any]:
        """Answers `{"instances": [{"image": [...]}]}`."""
        images = np.array([each["image"] for each in payload["instances"]], np.float32)
        answer = self._serve(image=tf.constant(images))
        pairs = zip(answer["class"].numpy(), answer["probabilities"].numpy(), strict=True)
        predictions = [{"class": int(label), "probabilities": row.tolist()} for label, row in pairs]
        return {"predictions": predictions}


if __name__ == "__main__":
    server = ModelServer(http_port=int(PORT), enable_grpc=False, workers=1)
    server.start([Bare(FOLDER)])
