"""TLS by files, for HTTP and gRPC: the next connection gets what lies in the files now."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

from perennial.errors import ServingError
from schemas.project import TlsSettings

logger = logging.getLogger("perennial.serving")
_Stamp = tuple[tuple[int, int], tuple[int, int]]


class Certificates:
    """A certificate and its key, looked at again at each handshake.

    Files that do not fit together, as while they are being exchanged, leave the former pair in use.
    """

    def __init__(self, settings: TlsSettings, folder: Path) -> None:
        """Reads the files.

        Args:
            settings: Which files.
            folder: What their paths are relative to.

        Raises:
            ServingError: They are no certificate and its key.
        """
        self._certificate, self._key = folder / settings.certificate, folder / settings.key
        self._lock = threading.Lock()
        self._seen = self._stamp()
        try:
            self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ServingError(
                f"serving.tls: {self._certificate} and {self._key}",
                "must be a certificate and its key without a password, in PEM",
                getattr(error, "strerror", None) or error,
                "Correct the paths or the files.",
            ) from None
        self._pair = self._read()

    def current(self) -> ssl.SSLContext:
        """Gives the context of a new connection over HTTP."""
        self._refresh()
        return self._context

    def http_context(self) -> ssl.SSLContext:
        """Gives the context that a server of HTTP holds, which asks for the current one."""
        context = self._load()

        def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self.current()

        context.sni_callback = choose
        return context

    def grpc_credentials(self) -> Any:
        """Gives the credentials of a server of gRPC, which asks for the current ones."""
        import grpc

        def configuration() -> Any:
            self._refresh()
            return grpc.ssl_server_certificate_configuration([self._pair])

        return grpc.dynamic_ssl_server_credentials(configuration(), configuration)

    def _refresh(self) -> None:
        with self._lock:
            if (stamp := self._stamp()) == self._seen:
                return
            self._seen = stamp
            try:
                self._context, self._pair = self._load(), self._read()
            except (OSError, ssl.SSLError) as error:
                logger.error("the former certificate stays in use: %s", error)
            else:
                logger.info("the certificate of %s is in use", self._certificate)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password a file that needs one would have OpenSSL ask on the terminal.
        context.load_cert_chain(self._certificate, self._key, password=_no_password)
        return context

    def _read(self) -> tuple[bytes, bytes]:
        return self._key.read_bytes(), self._certificate.read_bytes()

    def _stamp(self) -> _Stamp | None:
        """Gives what changes with the files, also behind the links of a volume of Kubernetes."""
        try:
            certificate, key = os.stat(self._certificate), os.stat(self._key)
        except OSError:
            return None
        return (certificate.st_ino, certificate.st_mtime_ns), (key.st_ino, key.st_mtime_ns)


def _no_password() -> str:
    return ""
