"""Feature functions for `preprocessing_fn`, the same in training, serving and batch prediction.

    from perennial import features

    def preprocessing_fn(inputs):
        seconds = features.epoch_seconds(inputs["picked_up_at"])
        payment = features.hashed(inputs["payment"], 64)
        return {**features.cyclic_date_parts(seconds), "payment": payment}

All but `entity_history` are made of TensorFlow operations alone, keep nothing between calls and
look at one example at a time, so they become part of the exported graph and mean the same
everywhere.

Inputs are dense tensors of any shape, such as [batch] or [batch, 1], or the SparseTensors that
TensorFlow Transform gives for features that can be missing. A function that works value by value
keeps the form that it gets: what is missing stays missing. A function that needs a value for every
example says so; give it `filled(x, default)`.
"""

from perennial.features.dates import cyclic, cyclic_date_parts, date_parts, epoch_seconds
from perennial.features.history import entity_history, recency_frequency_monetary
from perennial.features.numbers import filled, log1p_signed
from perennial.features.text import crossed, hashed, hashed_token_counts, normalised_text, tokens

__all__ = [
    "crossed",
    "cyclic",
    "cyclic_date_parts",
    "date_parts",
    "entity_history",
    "epoch_seconds",
    "filled",
    "hashed",
    "hashed_token_counts",
    "log1p_signed",
    "normalised_text",
    "recency_frequency_monetary",
    "tokens",
]
