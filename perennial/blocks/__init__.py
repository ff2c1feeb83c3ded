"""Building blocks for `build_model`, composable as *stem -> learner -> task*.

    from perennial import blocks

    def build_model(transform_output):
        stem = blocks.table_stem(["miles", "hour_sin"], {"payment": 8, "company": 100})
        tasks = [blocks.binary("tipped"), blocks.regression("fare")]
        return blocks.assemble(stem, blocks.mlp(units=(128, 64)), tasks)

A stem reads transformed features, a learner makes one latent vector of them, and each task reads
that vector. Stems and learners are Keras layers, so they also work on tensors of your own, and
layers of your own work between them.

| stem | gives | learners that fit |
| --- | --- | --- |
| `table_stem` | a vector [batch, d] | `mlp` |
| `table_tokens` | a token for each feature [batch, features, d] | `transformer_encoder`, `mlp` |
| `image_stem` | an image [batch, h, w, c] | `residual_groups`, `mlp` |
| `text_stem` | a sequence with its mask [batch, length, d] | `transformer_encoder`, `mlp` |
| `joined` | the vectors of several branches, side by side [batch, d] | `mlp` |

Every weight has a path that the same arguments always give, such as
`learner/group1/block2/conv1/kernel`; with it, weights travel from one model to another. Models
export as a SavedModel that needs none of this code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perennial.blocks.assembly import assemble, with_tasks
from perennial.blocks.reuse import reuse_learner
from perennial.blocks.tasks import Head, binary, multi_class, regression

if TYPE_CHECKING:
    from perennial.blocks.learners import Mlp as mlp
    from perennial.blocks.learners import ResidualGroups as residual_groups
    from perennial.blocks.learners import TransformerEncoder as transformer_encoder
    from perennial.blocks.stems import ImageStem as image_stem
    from perennial.blocks.stems import Joined as joined
    from perennial.blocks.stems import TableTokens as table_tokens
    from perennial.blocks.stems import TableVector as table_stem
    from perennial.blocks.stems import TextStem as text_stem

__all__ = [
    "Head",
    "assemble",
    "binary",
    "image_stem",
    "joined",
    "mlp",
    "multi_class",
    "regression",
    "residual_groups",
    "reuse_learner",
    "table_stem",
    "table_tokens",
    "text_stem",
    "transformer_encoder",
    "with_tasks",
]

# Layers by their public name: found when they are asked for, so that a user's module that imports
# the blocks does not import Keras where only its preprocessing_fn is needed.
_LAYERS = {
    "image_stem": "stems:ImageStem",
    "joined": "stems:Joined",
    "mlp": "learners:Mlp",
    "residual_groups": "learners:ResidualGroups",
    "table_stem": "stems:TableVector",
    "table_tokens": "stems:TableTokens",
    "text_stem": "stems:TextStem",
    "transformer_encoder": "learners:TransformerEncoder",
}


def __getattr__(name: str) -> Any:
    """Gives a layer by its public name."""
    if name not in _LAYERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, layer = _LAYERS[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), layer)
