"""`perennial serve`: the model server on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from perennial.cli.arguments import Folder

Port = Annotated[int | None, typer.Option(help="HTTP port; default: serving.port of the settings.")]
GrpcPort = Annotated[
    int | None, typer.Option(help="Port of gRPC; default: serving.grpc_port of the settings.")
]
Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on; 0.0.0.0: all of this machine. Beyond loopback there must be a "
        "token, see `perennial token add`."
    ),
]


def serve(
    folder: Folder, port: Port = None, grpc_port: GrpcPort = None, host: Host = "127.0.0.1"
) -> None:
    """Serve the champion over HTTP, and over gRPC if wanted, following the ledger."""
    from perennial.project import load_project
    from serving.server import serve as serve_project

    serve_project(load_project(folder), port, host, grpc_port)
