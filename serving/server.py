"""The model server: KServe's, with the champion of a project or with one SavedModel folder."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from perennial.errors import ProjectError, ServingError
from perennial.ledger.events import Ledger
from perennial.production.tokens import token_file
from perennial.project import Project
from perennial.tfx_compat import prepare_process
from schemas.project import LimitSettings
from serving.access import Access, RefusalCollector, TokenList, is_loopback, require_loopback
from serving.domains import DomainCheck
from serving.follower import Follower, first_champion, freeze_memory, registry_loader
from serving.metrics import ArmMetrics, SlotCollector
from serving.observer import NoObserver, ObserverQueue, make_observer
from serving.runtime import load_model
from serving.slot import Slot
from serving.tls import Certificates

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class PortNames:
    """The option and the setting that choose a port."""

    option: str
    setting: str


HTTP = PortNames("--port", "serving.port")
GRPC = PortNames("--grpc-port", "serving.grpc_port")

logger = logging.getLogger("perennial.serving")


@dataclass(frozen=True)
class Answering:
    """The parts that answer, refuse and observe, and the feature that keys an instance."""

    slot: Slot
    domains: DomainCheck
    observers: ObserverQueue
    key: str | None = None
    access: Access = field(default_factory=lambda: Access(TokenList(None), LimitSettings()))
    certificates: Certificates | None = None


def serve(
    project: Project,
    port: int | None = None,
    host: str = LOOPBACK,
    grpc_port: int | None = None,
) -> None:
    """Serves a project's champion and follows the ledger, until SIGTERM or SIGINT.

    Args:
        project: Whose ledger and registry to follow.
        port: HTTP port; none: `serving.port` of the settings.
        host: Address to listen on.
        grpc_port: Port of gRPC; none: `serving.grpc_port` of the settings.

    Raises:
        ServingError: Nothing was deployed yet, a port is taken, other machines would reach a server
            without tokens, or the champion cannot be served.
        ProjectError: The file of tokens is none.
        LedgerError: The ledger cannot be read.
        RegistryError: The registry does not hold the champion.
        IntegrityError: The champion's files are not those that were evaluated.
    """
    _log_to_stderr()
    prepare_process()
    settings = project.settings.serving
    ledger = Ledger(project.ledger_url)
    port = settings.port if port is None else port
    grpc_port = settings.grpc_port if grpc_port is None else grpc_port
    with _closing(ledger), _bound(host, port) as listener, ExitStack() as stack:
        reserved = None if grpc_port is None else stack.enter_context(_bound(host, grpc_port, GRPC))
        access, certificates = _access(project, [listener, reserved])
        champion = first_champion(ledger, project)
        load = registry_loader(project)
        _import_all()
        slot = Slot(load(champion))
        follower = Follower(ledger, load, slot, settings.poll_seconds)
        follower.poll()  # a test that is running takes its traffic from the first request
        follower.start()
        observers = ObserverQueue(make_observer(project))
        try:
            answering = Answering(
                slot,
                DomainCheck(settings.outside_domain),
                observers,
                project.settings.data.key,
                access,
                certificates,
            )
            _run(answering, listener, reserved)
        finally:
            follower.stop()
            observers.close()


def serve_folder(
    name: str, version: str, saved_model: Path, digest: str, port: int, host: str = LOOPBACK
) -> None:
    """Serves one SavedModel folder, without a ledger, until SIGTERM or SIGINT.

    Args:
        name: Name of the model in URLs.
        version: What answers carry as `model_version`.
        saved_model: The folder.
        digest: SHA-256 that the folder must have.
        port: HTTP port.
        host: Address to listen on.

    Raises:
        ServingError: The port is taken, or the model cannot be served.
        IntegrityError: The folder does not have the digest.
    """
    _log_to_stderr()
    with _bound(host, port) as listener:
        slot = Slot(load_model(name, version, saved_model, digest))
        _run(Answering(slot, DomainCheck(), ObserverQueue(NoObserver())), listener)


def _run(
    answering: Answering, listener: socket.socket, reserved: socket.socket | None = None
) -> None:
    """Answers requests with the models in the slot, until a signal.

    `reserved` holds the address of gRPC; None: there is none.
    """
    with _no_arguments():
        from serving.protocol import LoopbackModelServer, SlotModel
        from serving.router import Router
    from prometheus_client import REGISTRY

    slot, domains, observers = answering.slot, answering.domains, answering.observers
    host, port = listener.getsockname()[:2]
    metrics = ArmMetrics()
    access, certificates = answering.access, answering.certificates
    server = LoopbackModelServer(port, access.limits)
    router = Router(slot, domains, metrics, observers)
    collectors = [SlotCollector(slot, domains, metrics, observers), RefusalCollector(access)]
    for collector in collectors:
        REGISTRY.register(collector)
    try:
        _listen(listener, host, port)
        logger.info(
            "%s version %s serves on %s://%s:%s",
            slot.model.name,
            slot.model.version,
            "http" if certificates is None else "https",
            host,
            port,
        )
        with _signals_end_quietly(), ExitStack() as stack:
            if reserved is not None:
                from serving.grpc_service import InferenceService, grpc_running

                grpc_host, grpc_port = reserved.getsockname()[:2]
                service = InferenceService(router, answering.key, server.dataplane)
                stack.enter_context(grpc_running(service, reserved, access, certificates))
                logger.info("gRPC is served on %s:%s", grpc_host, grpc_port)
            model = SlotModel(router, answering.key, access.limits)
            server.run(model, listener, access, certificates)
    finally:
        for collector in collectors:
            REGISTRY.unregister(collector)


def _access(
    project: Project, listeners: Sequence[socket.socket | None]
) -> tuple[Access, Certificates | None]:
    """Reads who may ask, and the certificate, before anything is loaded.

    Raises:
        ProjectError: The file of tokens is none, or is named and not there.
        ServingError: Everybody may ask and other machines reach the server, or TLS is not possible.
    """
    settings = project.settings.serving
    path = token_file(project)
    if settings.tokens is not None and not path.exists():
        raise ProjectError(
            f"serving.tokens: {path}",
            "must be there",
            "no such file",
            "Make the first token: `perennial token add PROJECT NAME`.",
        )
    tokens = TokenList(path)
    hosts = [listener.getsockname()[0] for listener in listeners if listener is not None]
    if not tokens.needed:
        for host in hosts:
            require_loopback(host)
    elif settings.tls is None and not all(map(is_loopback, hosts)):
        logger.warning(
            "tokens travel in the clear beyond this machine: set serving.tls, or let what stands "
            "before the server speak TLS"
        )
    tls = settings.tls
    certificates = None if tls is None else Certificates(tls, project.folder)
    return Access(tokens, settings.limits), certificates


def _import_all() -> None:
    """Imports what answers need, so that no search for garbage looks at it."""
    with _no_arguments():
        import serving.protocol  # noqa: F401
    import tensorflow  # noqa: F401

    freeze_memory()


@contextmanager
def _bound(host: str, port: int, names: PortNames = HTTP) -> Iterator[socket.socket]:
    """Takes the port before loading, which costs seconds: a taken one is reported at once.

    It listens only when the model is ready: until then a client is refused and does not wait.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise _port_error(host, port, error, names) from None
        yield listener


def _listen(listener: socket.socket, host: str, port: int) -> None:
    try:
        listener.listen(1024)
    except OSError as error:  # another server took the port while this one loaded
        raise _port_error(host, port, error, HTTP) from None


def _port_error(host: str, port: int, error: OSError, names: PortNames) -> ServingError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ServingError(
            "--host",
            "must be an address of this machine",
            f"{host} ({error.strerror})",
            f"Leave it out for {LOOPBACK}, or give 0.0.0.0 for all addresses.",
        )
    remedy = (
        f"Stop what uses it, or choose another with {names.option} or {names.setting} in "
        "project.yaml."
    )
    return ServingError(
        f"port {port} on {host}", "must be free for the server", error.strerror or error, remedy
    )


@contextmanager
def _closing(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    finally:
        ledger.close()


@contextmanager
def _no_arguments() -> Iterator[None]:
    """Hides the command line from KServe, which parses it when it is imported.

    KServe ends the process over arguments that it does not know.
    """
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Lets SIGTERM and SIGINT end the server as a success.

    Uvicorn stops gracefully, then raises the signal again for the handlers from before: those must
    not end the process.
    """

    def ignore(_number: int, _frame: FrameType | None) -> None:
        logger.info("stopped")

    before = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_to_stderr() -> None:
    """Shows the server's own lines, with their time, on stderr."""
    if logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s serving: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
