"""Following the ledger: the server answers with the arms that it names, as far as they load.

What to do is decided by pure functions; a thread does it. A version is loaded and warmed up before
it takes any traffic. Whatever fails, what serves goes on serving.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from perennial.errors import IntegrityError, PerennialError, ServingError
from perennial.ledger.events import Ledger, NewEvent
from perennial.production.arms import Arms, Challenger, find_arms
from perennial.project import Project
from perennial.registry.versions import Registry
from schemas.records import Arm, Champion, LoadFailed
from serving.runtime import LoadedModel, load_model
from serving.slot import ArmFailure, LiveArms, LiveTest, Slot

LONGEST_WAIT = 60.0  # seconds between attempts to load a version that failed before
# How long a thread that loads keeps Python's lock while requests wait for it, in seconds; Python's
# own 5 ms, several times a request, would show in every answer.
_TURN = 0.0002

logger = logging.getLogger("perennial.serving")
Place = Literal["champion", "test"]
Loader = Callable[[Champion | Challenger], LoadedModel]


@dataclass(frozen=True)
class Failure:
    """A deployment or test that could not be loaded; `retry_at` is in monotonic seconds."""

    number: int
    attempts: int
    retry_at: float


def should_load(
    champion: Champion | None, model: LoadedModel, failure: Failure | None, now: float
) -> bool:
    """Tells whether the deployment that the ledger names is to be loaded now.

    Without a champion (a ledger that was emptied) the model that serves stays.
    """
    if champion is None or _is(model, champion):
        return False
    return may_try(champion.deployment, failure, now)


def may_try(number: int, failure: Failure | None, now: float) -> bool:
    """Tells whether to load what failed before; a newer deployment or test is tried at once."""
    return failure is None or failure.number != number or now >= failure.retry_at


def after_failure(number: int, failure: Failure | None, now: float, poll_seconds: float) -> Failure:
    """Counts a failed attempt; the wait doubles from `poll_seconds` up to `LONGEST_WAIT`."""
    again = failure is not None and failure.number == number
    attempts = failure.attempts + 1 if failure and again else 1
    wait = min(poll_seconds * 2.0 ** min(attempts, 16), LONGEST_WAIT)
    return Failure(number, attempts, now + wait)


def registry_loader(project: Project) -> Loader:
    """Gives the function that fetches a version from the registry and loads it.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    registry = Registry(project)

    def load(named: Champion | Challenger) -> LoadedModel:
        version = registry.version(named.version)
        if not version.digest or version.digest != named.digest:
            where = f"version {named.version} in the registry"
            expected = f"must have the digest {named.digest} that was deployed"
            raise IntegrityError(
                where, expected, version.digest or "none", "Deploy a version that was not changed."
            )
        folder, serving = registry.fetch(version), project.settings.serving
        most, batching = serving.limits.instances, serving.batching
        return load_model(
            registry.name, version.version, folder, named.digest, most_rows=most, batching=batching
        )

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
    """Polls the ledger and puts into the slot what it names.

    Args:
        ledger: Where deployments and tests are read, and failures recorded.
        load: Makes a version a model in memory.
        slot: Where the server takes its models from.
        poll_seconds: How often the ledger is read.
    """

    def __init__(self, ledger: Ledger, load: Loader, slot: Slot, poll_seconds: float) -> None:
        self._ledger, self._load, self._slot, self._poll_seconds = ledger, load, slot, poll_seconds
        self._server = f"{platform.node()}:{os.getpid()}"
        self._failures: dict[Place, Failure] = {}
        self._writable = True
        self._replaced = False
        self._recorded: set[str] = set()  # keys of failures, each in the ledger
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
        """Reads the ledger once, and loads what is new. Never raises."""
        try:
            arms = find_arms(self._ledger)
        except Exception as error:
            self._note_unreadable(error)
            return
        if not self._slot.ledger_readable:
            self._slot.ledger_readable = True
            logger.info("the ledger is readable again")
        if arms is not None:
            self._follow_champion(arms.champion)
            self._follow_test(arms)
        if self._replaced:
            self._replaced = False
            gc.collect()  # frees the model that answers no more
        self._record_failures()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self.poll()
            self._stopping.wait(self._poll_seconds)

    def _follow_champion(self, champion: Champion) -> None:
        live = self._slot.arms
        failure = self._failures.get("champion")
        if not should_load(champion, live.champion, failure, time.monotonic()):
            return
        began = time.monotonic()
        tested = live.test.model if live.test else None
        if tested is not None and _is(tested, champion):
            model: LoadedModel | None = tested  # the challenger was promoted
        else:
            model = self._try_to_load("champion", champion.deployment, "champion", champion)
        if model is not None:
            self._slot.arms = LiveArms(model)
            self._replaced = True
            logger.info(
                "version %s serves now (deployment %s, %.1f s)",
                champion.version,
                champion.deployment,
                time.monotonic() - began,
            )

    def _follow_test(self, arms: Arms) -> None:
        live, challenger = self._slot.arms, arms.challenger
        if challenger is None or not _is(live.champion, arms.champion):
            if live.test is not None:
                self._slot.set_test(None)
                self._replaced = True
                logger.info("test %s has ended", live.test.challenger.test)
            return
        model: LoadedModel | None = None
        if live.test is not None and live.test.challenger.test == challenger.test:
            model = live.test.model
        if model is None and may_try(challenger.test, self._failures.get("test"), time.monotonic()):
            model = self._try_to_load("test", challenger.test, challenger.arm, challenger)
        test = LiveTest(challenger, model)
        if test == live.test:
            return
        self._slot.set_test(test)
        if model is not None:
            logger.info(
                "version %s is the %s now, with a share of %s (test %s)",
                challenger.version,
                challenger.arm,
                challenger.share,
                challenger.test,
            )

    def _try_to_load(
        self, place: Place, number: int, arm: Arm, named: Champion | Challenger
    ) -> LoadedModel | None:
        """Loads a version aside; None: that failed, and the failure is noted."""
        try:
            with _in_short_turns():
                model = self._load(named)
        except Exception as error:
            self._note_failed_load(place, number, arm, named, error)
            return None
        self._failures.pop(place, None)
        return model

    def _note_unreadable(self, error: Exception) -> None:
        self._slot.failed_reads += 1
        self._ledger.close()  # the next poll opens a fresh connection
        if self._slot.ledger_readable:
            self._slot.ledger_readable = False
            logger.error(
                "version %s keeps serving, as the ledger fails: %s",
                self._slot.model.version,
                in_one_line(error),
            )

    def _note_failed_load(
        self,
        place: Place,
        number: int,
        arm: Arm,
        named: Champion | Challenger,
        error: Exception,
    ) -> None:
        self._slot.failed_loads += 1
        now, reason = time.monotonic(), in_one_line(error)
        failure = after_failure(number, self._failures.get(place), now, self._poll_seconds)
        self._failures[place] = failure
        self._slot.failures.append(ArmFailure(arm, number, named.version, named.digest, reason))
        logger.error(
            "version %s (%s %s) cannot be loaded, version %s keeps serving; next attempt in "
            "%.0f s: %s",
            named.version,
            "deployment" if place == "champion" else "test",
            number,
            self._slot.model.version,
            failure.retry_at - now,
            reason,
        )

    def _record_failures(self) -> None:
        """Records in the ledger, once for each server and deployment or test, what failed."""
        failures = self._slot.failures
        while failures:
            failure = failures[0]
            key = f"load-failed:{self._server}:{failure.arm}:{failure.number}"
            if key not in self._recorded and not self._record(key, failure):
                return  # the next poll tries again
            failures.popleft()

    def _record(self, key: str, failure: ArmFailure) -> bool:
        """Records one failure; False: the ledger does not take it now."""
        body = LoadFailed(
            version=failure.version,
            digest=failure.digest,
            arm=failure.arm,
            reason=failure.reason,
            server=self._server,
        )
        try:
            self._ledger.append_once(NewEvent("load_failed", body, key=key))
        except Exception as error:
            if self._writable:
                self._writable = False
                logger.error("the ledger takes no failures: %s", in_one_line(error))
            return False
        self._writable = True
        self._recorded.add(key)
        return True


def in_one_line(error: Exception) -> str:
    """Gives the message of an error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PerennialError) else f"{type(error).__name__}: {text[:300]}"


def freeze_memory() -> None:
    """Leaves what was imported out of all later searches for garbage.

    TensorFlow and KServe make some hundred thousand objects that stay. Each search would look at
    all of them, and answers would wait for it. A model that answers no more is freed by such a
    search alone, as its functions refer to each other, and Python by itself makes one too seldom.
    """
    gc.collect()
    gc.freeze()


def _is(model: LoadedModel, named: Champion | Challenger) -> bool:
    return (named.version, named.digest) == (model.version, model.digest)


@contextmanager
def _in_short_turns() -> Iterator[None]:
    """Makes threads take turns often, so that requests do not wait for the one that loads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
