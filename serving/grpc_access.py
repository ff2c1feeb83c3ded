"""Who may ask over gRPC: the same decisions as over HTTP, as statuses of gRPC.

To be imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from schemas.purposes import Purpose
from serving.access import Access, Refusal

_STATUSES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_SERVICE = "/inference.GRPCInferenceService/"
# Asked by what starts and restarts servers, which holds no token.
_PROBES = frozenset({f"{_SERVICE}ServerLive", f"{_SERVICE}ServerReady"})
_REPOSITORY = f"{_SERVICE}Repository"


class GrpcGate(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets calls through, or refuses them before anything of them is decoded."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Gives the handler of a call, or one that refuses it."""
        if details.method in _PROBES:
            return continuation(details)
        metadata = dict(details.invocation_metadata)
        repository = details.method.startswith(_REPOSITORY)
        purpose: Purpose = "administration" if repository else "predicting"
        refusal = self._access.check(metadata.get("authorization"), [purpose])
        if refusal is None:
            return continuation(details)
        return grpc.unary_unary_rpc_method_handler(_refuse_with(refusal))


def _refuse_with(refusal: Refusal) -> Callable[[Any, Any], NoReturn]:
    def refuse(_request: Any, context: Any) -> NoReturn:
        if refusal.retry_after is not None:
            context.set_trailing_metadata((("retry-after", str(refusal.retry_after)),))
        context.abort(_STATUSES[refusal.status], refusal.message)
        raise AssertionError  # abort raises

    return refuse
