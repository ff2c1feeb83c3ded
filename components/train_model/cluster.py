"""Agreement of the workers of a cluster: the chief decides, and the others receive it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Agreement:
    """The workers under one strategy.

    With strategies that run in one process, that process is the chief.
    """

    strategy: tf.distribute.Strategy

    @property
    def workers(self) -> int:
        """Counts the workers."""
        cluster = self._cluster
        return (
            1
            if cluster is None
            else sum(len(jobs) for jobs in cluster.cluster_spec().as_dict().values())
        )

    @property
    def is_chief(self) -> bool:
        """Tells whether this process is the one that writes."""
        cluster = self._cluster
        if cluster is None:
            return True
        named = "chief" in cluster.cluster_spec().jobs
        return bool(cluster.task_type == "chief" if named else cluster.task_id == 0)

    def with_chief(self, values: Sequence[float]) -> list[float]:
        """Gives the chief's values on every worker.

        All must call it, and all wait until all have.
        """
        import tensorflow as tf

        if self._cluster is None:
            return list(values)
        mine = tf.constant(list(values), tf.float64)

        def only_first() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The chief's first replica is the first of all.
            return mine if context.replica_id_in_sync_group == 0 else tf.zeros_like(mine)

        summed = self.strategy.reduce(
            tf.distribute.ReduceOp.SUM, self.strategy.run(only_first), axis=None
        )
        return [float(value) for value in summed.numpy()]

    @property
    def _cluster(self) -> Any:
        import tensorflow as tf

        if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return None
        return self.strategy.cluster_resolver
