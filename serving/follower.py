"""Following the ledger: the server always serves the newest deployment that can be loaded.

What to do is decided by pure functions; a thread does it. Whatever fails, the model that serves
goes on serving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from perennial.errors import IntegrityError, PerennialError, ServingError
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.versions import Registry
from schemas.records import Champion
from serving.runtime import LoadedModel, load_model

LONGEST_WAIT = 60.0  # seconds between attempts to load a deployment that failed before

logger = logging.getLogger("perennial.serving")
Loader = Callable[[Champion], LoadedModel]


class Slot:
    """Holds the model that serves.

    Replacing it is one assignment, which Python makes atomic: a request reads the reference once
    and keeps that model until it is answered.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.failed_loads = 0
        self.failed_reads = 0


@dataclass(frozen=True)
class Failure:
    """A deployment that could not be loaded; `retry_at` is in monotonic seconds."""

    deployment: int
    attempts: int
    retry_at: float


def should_load(
    champion: Champion | None, model: LoadedModel, failure: Failure | None, now: float
) -> bool:
    """Tells whether the deployment that the ledger names is to be loaded now.

    Without a champion (a ledger that was emptied) the model that serves stays. A deployment that
    failed waits for its next attempt; a newer one is tried at once.
    """
    if champion is None or (champion.version, champion.digest) == (model.version, model.digest):
        return False
    return failure is None or failure.deployment != champion.deployment or now >= failure.retry_at


def after_failure(
    champion: Champion, failure: Failure | None, now: float, poll_seconds: float
) -> Failure:
    """Counts a failed attempt; the wait doubles from `poll_seconds` up to `LONGEST_WAIT`."""
    again = failure is not None and failure.deployment == champion.deployment
    attempts = failure.attempts + 1 if failure and again else 1
    wait = min(poll_seconds * 2.0 ** min(attempts, 16), LONGEST_WAIT)
    return Failure(champion.deployment, attempts, now + wait)


def registry_loader(project: Project) -> Loader:
    """Gives the function that fetches a deployment from the registry and loads it.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    registry = Registry(project)

    def load(champion: Champion) -> LoadedModel:
        version = registry.version(champion.version)
        if not version.digest or version.digest != champion.digest:
            where = f"version {champion.version} in the registry"
            expected = f"must have the digest {champion.digest} that was deployed"
            raise IntegrityError(
                where, expected, version.digest or "none", "Deploy a version that was not changed."
            )
        return load_model(registry.name, version.version, registry.fetch(version), champion.digest)

    return load


def first_champion(ledger: Ledger, project: Project) -> Champion:
    """Gives the deployment that a starting server serves.

    Raises:
        LedgerError: The ledger cannot be read.
        ServingError: Nothing was ever deployed.
    """
    champion = ledger.champion()
    if champion is None:
        where, remedy = (
            f"ledger of {project.settings.name}",
            f"Run `perennial run {project.folder}` first.",
        )
        raise ServingError(where, "must name a model that serves", "no deployment", remedy)
    return champion


class Follower:
    """Polls the ledger and puts each new deployment into the slot.

    Args:
        ledger: Where deployments are read.
        load: Makes a deployment a model in memory.
        slot: Where the server takes its model from.
        poll_seconds: How often the ledger is read.
    """

    def __init__(self, ledger: Ledger, load: Loader, slot: Slot, poll_seconds: float) -> None:
        self._ledger, self._load, self._slot, self._poll_seconds = ledger, load, slot, poll_seconds
        self._failure: Failure | None = None
        self._readable = True
        self._stopping = threading.Event()
        # A daemon: a load that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._follow, name="ledger-follower", daemon=True)

    def start(self) -> None:
        """Begins to follow, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stops following; waits a moment for the poll that is going on."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def poll(self) -> None:
        """Reads the ledger once and loads what is new. Never raises."""
        try:
            champion = self._ledger.champion()
        except Exception as error:
            self._note_unreadable(error)
            return
        if not self._readable:
            self._readable = True
            logger.info("the ledger is readable again")
        if champion and should_load(champion, self._slot.model, self._failure, time.monotonic()):
            self._replace(champion)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self.poll()
            self._stopping.wait(self._poll_seconds)

    def _replace(self, champion: Champion) -> None:
        began = time.monotonic()
        try:
            self._slot.model = self._load(champion)
        except Exception as error:
            self._note_failed_load(champion, error)
            return
        self._failure = None
        seconds = time.monotonic() - began
        logger.info(
            "version %s serves now (deployment %s, %.1f s)",
            champion.version,
            champion.deployment,
            seconds,
        )

    def _note_unreadable(self, error: Exception) -> None:
        self._slot.failed_reads += 1
        self._ledger.close()  # the next poll opens a fresh connection
        if self._readable:
            self._readable = False
            logger.error(
                "version %s keeps serving, as the ledger fails: %s",
                self._slot.model.version,
                _in_one_line(error),
            )

    def _note_failed_load(self, champion: Champion, error: Exception) -> None:
        self._slot.failed_loads += 1
        now = time.monotonic()
        self._failure = after_failure(champion, self._failure, now, self._poll_seconds)
        logger.error(
            "version %s (deployment %s) cannot be loaded, version %s keeps serving; next attempt "
            "in %.0f s: %s",
            champion.version,
            champion.deployment,
            self._slot.model.version,
            self._failure.retry_at - now,
            _in_one_line(error),
        )


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PerennialError) else f"{type(error).__name__}: {text[:300]}"
