"""Network namespaces on a bridge: machines of their own, with addresses and names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ABSENT = "this account may not make network namespaces (ip netns)"


@dataclass(frozen=True)
class Network:
    """Namespaces by number, and what is outside of them.

    Attributes:
        gateway: Address of this machine on the bridge.
        namespaces: Names.
        addresses: Of each namespace.
    """

    gateway: str
    namespaces: list[str]
    addresses: list[str]

    def name_hosts(self, names: Mapping[str, str]) -> None:
        """Has the namespaces know these names of addresses."""
        text = "127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in names.items())
        for namespace in self.namespaces:
            folder = Path("/etc/netns", namespace)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(text)

    @contextmanager
    def forward(self, server: str) -> Iterator[str]:
        """Has a server of loopback answer at the bridge, too; gives HOST:PORT there."""
        host, _, port = server.partition(":")
        with socket.create_server((self.gateway, 0)) as listener:
            arguments = (listener, (host, int(port)))
            threading.Thread(target=_forward, args=arguments, daemon=True).start()
            yield f"{self.gateway}:{listener.getsockname()[1]}"
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread


@contextmanager
def make_network(count: int) -> Iterator[Network | None]:
    """Makes namespaces, and removes them; gives None where this account may not."""
    number = os.getpid() % 250
    bridge, names = f"pb{os.getpid()}", [f"perennial-{os.getpid()}-{i}" for i in range(count)]
    network = Network(
        f"10.231.{number}.1", names, [f"10.231.{number}.{i + 2}" for i in range(count)]
    )
    with ExitStack() as stack:
        try:
            _ip("link", "add", bridge, "type", "bridge")
            stack.callback(_ip, "link", "del", bridge)
            _ip("addr", "add", f"{network.gateway}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            for index, (name, address) in enumerate(zip(names, network.addresses, strict=True)):
                _ip("netns", "add", name)
                stack.callback(_remove, name)
                outer = f"pv{os.getpid()}{index}"
                _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("link", "set", outer, "master", bridge, "up")
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                for link in ("lo", "eth0"):
                    _ip("-n", name, "link", "set", link, "up")
                _ip("netns", "exec", name, "true")
        except (OSError, subprocess.CalledProcessError):
            yield None
            return
        yield network


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _remove(namespace: str) -> None:
    shutil.rmtree(Path("/etc/netns", namespace), ignore_errors=True)
    _ip("netns", "del", namespace)


def _forward(listener: socket.socket, server: tuple[str, int]) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            inner, _ = listener.accept()
            outer = socket.create_connection(server)
            for source, target in ((inner, outer), (outer, inner)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
