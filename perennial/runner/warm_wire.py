"""Messages between a command and the warm process: JSON on a Unix socket, with open files."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from perennial.runner.warm_imports import ALL

_LENGTH = struct.Struct("!Q")
_CREDENTIALS = struct.Struct("3i")  # of a peer: process, user, group; unix(7), SO_PEERCRED
LIMITS = tuple(n for n in dir(resource) if n.startswith("RLIMIT_") and n != "RLIMIT_OFILE")


@dataclass(frozen=True)
class Call:
    """A call of a function in a process forked from the warm process, as a command has it.

    `function` is MODULE:NAME and `arguments` are JSON values; `needs` names the groups of imports
    to wait for.
    """

    function: str
    arguments: Sequence[Any]
    needs: Sequence[str]
    environment: Mapping[str, str]
    path: Sequence[str]
    argv: Sequence[str]
    umask: int
    limits: Mapping[str, int]
    processors: Sequence[int]

    @classmethod
    def here(
        cls,
        function: str,
        arguments: Sequence[Any],
        needs: Sequence[str] = ALL,
        environment: Mapping[str, str] | None = None,
    ) -> Call:
        """Makes a call with the surroundings of this process and the variables of `environment`."""
        return cls(
            function=function,
            arguments=arguments,
            needs=needs,
            environment={**os.environ, **(environment or {})},
            path=sys.path,
            argv=sys.argv,
            umask=_read_umask(),
            limits={name: resource.getrlimit(getattr(resource, name))[0] for name in LIMITS},
            processors=sorted(os.sched_getaffinity(0)),
        )

    def to_message(self) -> dict[str, Any]:
        """Gives the request that `from_message` reads."""
        return {"do": "call", **asdict(self)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Call:
        """Reads the call that a request asks for."""
        return cls(**{name: value for name, value in message.items() if name != "do"})


@dataclass(frozen=True)
class Status:
    """The state of a warm process.

    `memory` is in bytes; `idle_left` in seconds until it ends, or None while it is in use.
    """

    process: int
    since: str
    key: str
    memory: int
    children: int
    importing: bool
    idle_left: float | None


def send(connection: socket.socket, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Sends a message, and files for the other side to use.

    Raises:
        OSError: The other side is gone.
    """
    body = json.dumps(message).encode()
    length = _LENGTH.pack(len(body))
    if files:
        socket.send_fds(connection, [length], list(files))
    else:
        connection.sendall(length)
    connection.sendall(body)


def receive(connection: socket.socket, files: int = 0) -> tuple[dict[str, Any] | None, list[int]]:
    """Receives the next message, and up to `files` files that came with it.

    The message is None when the other side is gone.

    Raises:
        OSError: The other side ended in the middle, or took longer than the connection's timeout.
    """
    first, received, _, _ = socket.recv_fds(connection, _LENGTH.size, files)
    if not first:
        return None, []
    length = first + _read(connection, _LENGTH.size - len(first))
    message: dict[str, Any] = json.loads(_read(connection, _LENGTH.unpack(length)[0]))
    return message, list(received)


def is_own_user(connection: socket.socket) -> bool:
    """Tells whether the other side belongs to the user of this process."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.geteuid())


def _read(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise ConnectionResetError("the other side ended in the middle of a message")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_umask() -> int:
    """Reads the mask for new files; `os.umask` would have to change it, also for other threads."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
