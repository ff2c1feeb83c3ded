"""Building blocks for `build_model`, composable as *stem -> learner -> task*.

    from perennial import blocks

    def build_model(transform_output):
        stem = blocks.table_stem(numeric=["miles", "hour_sin"], categorical={"payment": 8, "company": 100})
        tasks = [blocks.binary("tipped"), blocks.regression("fare")]
        return blocks.assemble(stem, blocks.mlp(units=(128, 64)), tasks)

A stem reads transformed features, a learner makes one latent vector of them, and each task reads that vector. Stems
and learners are Keras layers, so they also work on tensors of your own, and layers of your own work between them.

| stem | gives | learners that fit |
| --- | --- | --- |
| `table_stem` | a vector [batch, d] | `mlp` |
| `table_tokens` | a token for each feature [batch, features, d] | `transformer_encoder`, `mlp` |
| `image_stem` | an image [batch, h, w, c] | `residual_groups`, `mlp` |
| `text_stem` | a sequence with its mask [batch, length, d] | `transformer_encoder`, `mlp` |
| `joined` | the vectors of several branches, side by side [batch, d] | `mlp` |

Every weight has a path that the same arguments always give, such as `learner/group1/block2/conv1/kernel`; with it,
weights travel from one model to another. Models export as a SavedModel that needs none of this code.
"""

from perennial.blocks.assembly import assemble, with_tasks
from perennial.blocks.learners import mlp, residual_groups, transformer_encoder
from perennial.blocks.reuse import reuse_learner
from perennial.blocks.stems import image_stem, joined, table_stem, table_tokens, text_stem
from perennial.blocks.tasks import Head, binary, multi_class, regression

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
