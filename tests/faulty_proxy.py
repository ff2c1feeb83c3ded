"""A proxy on loopback before a server of HTTP, which treats some of the requests badly.

It takes one request a connection. Which request meets which fault is planned by a test, or drawn
from a seed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal[
    "slow",  # passes after a while
    "busy",  # 503, and the server hears nothing
    "broken",  # 500, and the server hears nothing
    "done, broken",  # 500, after the server did what was asked
    "done, gone",  # the connection ends without an answer, after the server did what was asked
    "cut answer",  # the connection ends in the middle of the answer
    "cut request",  # the connection to the server ends in the middle of the request
    "silent",  # nothing comes back
    "full",  # 507, and the server hears nothing
]
FAULTS: tuple[Fault, ...] = (
    *("slow", "busy", "broken", "done, broken", "done, gone", "cut answer", "cut request"),
)
_SLOW_SECONDS = 0.3
_STATUS = {
    "busy": "503 Service Unavailable",
    "broken": "500 Internal Server Error",
    "full": "507 Insufficient Storage",
}


@dataclass
class FaultyProxy:
    """A proxy that runs in a thread.

    Args:
        server: HOST:PORT of the server.
        seed: Of the draws.
        share: Of the requests that meet a fault.
        faults: That are drawn.
    """

    server: str
    seed: int = 1
    share: float = 0.0
    faults: tuple[Fault, ...] = FAULTS
    address: str = ""
    plan: deque[Fault | None] = field(default_factory=deque)
    met: Counter[Fault] = field(default_factory=Counter)
    requests: int = 0

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the one request of a connection."""
        try:
            head, body = await _read_request(reader, writer)
            fault = self._next_fault()
            await self._treat(fault, head, body, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client, or the server, is gone
        finally:
            writer.close()

    def _next_fault(self) -> Fault | None:
        self.requests += 1
        if self.plan:
            fault = self.plan.popleft()
        else:
            fault = self._draws.choice(self.faults) if self._draws.random() < self.share else None
        if fault:
            self.met[fault] += 1
        return fault

    async def _treat(
        self, fault: Fault | None, head: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if fault in _STATUS:
            writer.write(_refusal(_STATUS[fault]))
            return
        if fault == "silent":
            await asyncio.sleep(3600)
        if fault == "slow":
            await asyncio.sleep(_SLOW_SECONDS)
        if fault == "cut request":
            await self._ask(head, body[: len(body) // 2], whole=not body)
            return
        answer = await self._ask(head, body)
        if fault == "done, broken":
            writer.write(_refusal(_STATUS["broken"]))
        elif fault == "cut answer":
            start = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[: start + (len(answer) - start) // 2])
        elif fault != "done, gone":
            writer.write(answer)

    async def _ask(self, head: bytes, body: bytes, whole: bool = True) -> bytes:
        """Gives the server's answer; none where it is not sent the whole request."""
        host, port = self.server.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(head + body)
            await writer.drain()
            return await reader.read() if whole else b""
        finally:
            writer.close()


@contextmanager
def before(server: str, port: int = 0, **options: object) -> Iterator[FaultyProxy]:
    """Runs a proxy before a server while the block runs; `options` are those of `FaultyProxy`."""
    proxy = FaultyProxy(server, **options)  # type: ignore[arg-type]
    loop, listening = asyncio.new_event_loop(), threading.Event()

    listeners = []  # which nobody else refers to

    async def listen() -> None:
        listener = await asyncio.start_server(proxy.answer, "127.0.0.1", port)
        proxy.address = "{}:{}".format(*listener.sockets[0].getsockname())
        listeners.append(listener)
        listening.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, bytes]:
    """Reads a request; gives its head, which asks for the connection's end, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").rstrip().split("\r\n")
    named = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    if named.get("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    assert "transfer-encoding" not in named, "S3's clients tell how long a request is"
    body = await reader.readexactly(int(named.get("content-length", 0)))
    kept = [
        line for line in lines if line.partition(":")[0].lower() not in ("expect", "connection")
    ]
    return ("\r\n".join([*kept, "Connection: close"]) + "\r\n\r\n").encode("latin-1"), body


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
