"""An MLflow database without a model, of which each example has a copy."""

from __future__ import annotations

from tests.perennial.conftest import blank_registry

__all__ = ["blank_registry"]
