"""Arms: which versions answer in production, and which of them answers a request.

The split is sticky: a pure function of the test's salt and the request's key, so that every replica
gives a key to the same arm, before and after a restart. A challenger that gets a larger share keeps
the keys that it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from perennial.errors import LedgerError, ServingError
from perennial.ledger.events import Event, Ledger, NewEvent, body_of, end_of_test
from schemas.records import ABEnded, ABOutcome, ABShareChanged, ABStarted, Arm, Champion

_BITS = 53  # of a hash, which a float holds exactly


@dataclass(frozen=True)
class Challenger:
    """The version that a test compares with the champion.

    Attributes:
        test: The number of the event `ab_started`.
        version: In the registry.
        digest: Of its files.
        share: Its part of the traffic; a shadow has none.
        shadow: Whether it answers copies of all requests, and its answers are never returned.
        salt: What a request's key is hashed with.
        since: When the test began, UTC, ISO 8601.
        max_days: The longest that the test may go on.
    """

    test: int
    version: str
    digest: str
    share: float
    shadow: bool
    salt: str
    since: str
    max_days: float

    @property
    def arm(self) -> Arm:
        """Its name in answers, metrics and the log."""
        return "shadow" if self.shadow else "challenger"

    def takes(self, key: str) -> bool:
        """Tells whether it is the one that answers the requests with a key."""
        return not self.shadow and split_point(self.salt, key) < self.share


@dataclass(frozen=True)
class Arms:
    """The versions that answer in production; None: no test is running."""

    champion: Champion
    challenger: Challenger | None


def read_arms(ledger: Ledger) -> Arms:
    """Reads the arms as the ledger has them now.

    Raises:
        LedgerError: The ledger cannot be read.
        ServingError: Nothing was ever deployed.
    """
    arms = find_arms(ledger)
    if arms is None:
        raise ServingError(
            ledger.where,
            "must name a version that serves",
            "no deployment",
            "`perennial run` deploys the first version that the gate lets pass.",
        )
    return arms


def find_arms(ledger: Ledger) -> Arms | None:
    """Reads the arms as the ledger has them now; None: nothing was ever deployed.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    champion = ledger.champion()
    return None if champion is None else Arms(champion, _challenger(ledger, champion))


def split_point(salt: str, key: str) -> float:
    """Gives a key its place between 0 and 1 (exclusive): evenly spread, and always the same."""
    hashed = hashlib.sha256(f"{len(salt)}:{salt}{key}".encode(errors="surrogatepass")).digest()
    return float((int.from_bytes(hashed[:8], "big") >> (64 - _BITS)) / 2**_BITS)


def start_test(ledger: Ledger, test: ABStarted) -> Challenger:
    """Records the start of a test; gives its challenger.

    Raises:
        LedgerError: A test is running already, or another champion serves than the one it names.
    """
    arms = read_arms(ledger)
    if arms.challenger is not None:
        raise LedgerError(
            ledger.where,
            "must hold no test that is running",
            f"test {arms.challenger.test} of version {arms.challenger.version}",
            "`perennial ab stop` ends it.",
        )
    if arms.champion.deployment != test.champion_deployment:
        raise LedgerError(
            "the test",
            f"must be with deployment {test.champion_deployment}",
            f"deployment {arms.champion.deployment} (version {arms.champion.version}) serves now",
            "Start it again.",
        )
    newest = ledger.newest("ab_started")
    # Of two that start a test at the same time one is refused.
    key = f"ab-started-after:{newest.number if newest else 0}"
    ledger.append(NewEvent("ab_started", test, key=key))
    return require_challenger(ledger)


def change_share(ledger: Ledger, share: float, why: str) -> Challenger:
    """Gives the challenger another part of the traffic, from now on.

    Raises:
        LedgerError: No test is running, or its challenger is a shadow.
    """
    challenger = require_challenger(ledger)
    if challenger.shadow:
        raise LedgerError(
            f"version {challenger.version}",
            "must be a challenger to take a share of the traffic",
            "it is a shadow",
            "`perennial ab stop`, then `perennial ab start` with --share.",
        )
    changed = ABShareChanged(test=challenger.test, share=share, why=why)
    ledger.append(NewEvent("ab_share_changed", changed))
    return require_challenger(ledger)


def end_test(ledger: Ledger, test: int, outcome: ABOutcome, reasons: Sequence[str]) -> bool:
    """Ends a test: the champion answers everything again; False: it had ended before.

    Where the challenger is to be promoted, `Ledger.deploy` ends the test with the deployment.
    """
    return ledger.append_once(
        end_of_test(ABEnded(test=test, outcome=outcome, reasons=list(reasons)))
    )


def require_challenger(ledger: Ledger) -> Challenger:
    """Gives the challenger of the test that is running.

    Raises:
        LedgerError: No test is running.
        ServingError: Nothing was ever deployed.
    """
    challenger = read_arms(ledger).challenger
    if challenger is None:
        raise LedgerError(
            ledger.where,
            "must hold a test that is running",
            "none",
            "`perennial ab start` begins one.",
        )
    return challenger


def _challenger(ledger: Ledger, champion: Champion) -> Challenger | None:
    running = ledger.running_test()
    if running is None or running[1].champion_deployment != champion.deployment:
        return None
    event, test = running
    return Challenger(
        test=event.number,
        version=test.challenger_version,
        digest=test.challenger_digest,
        share=_share(ledger, event, test),
        shadow=test.shadow,
        salt=test.salt,
        since=event.at,
        max_days=test.max_days,
    )


def _share(ledger: Ledger, event: Event, test: ABStarted) -> float:
    newest = ledger.newest("ab_share_changed")
    if newest is None or newest.number < event.number:
        return test.share
    return body_of(newest, ABShareChanged).share
