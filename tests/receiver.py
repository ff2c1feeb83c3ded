"""A receiver of webhooks that fails as it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """Answers requests as it was told, then with 200; keeps what it accepted."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan, self.attempts, self.accepted = [], [], []
        self.released = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        step = server.plan.pop(0) if server.plan else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.attempts.append((step, headers, body))
        if step == "hang":
            server.released.wait(20)
            return
        if step == "reset":
            option = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            self.close_connection = True
            self.connection.close()
            return
        if step == 200:
            server.accepted.append((headers, body))
        self.send_response(step)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def run_receiver():
    """Runs one while the block runs."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
