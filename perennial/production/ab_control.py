"""A person starts a test between the champion and another version of the registry."""

from __future__ import annotations

import secrets

from perennial.errors import RegistryError
from perennial.ledger.events import Ledger
from perennial.ledger.people import person
from perennial.production.arms import Challenger, read_arms, start_test
from perennial.project import Project
from perennial.registry.versions import Registry
from schemas.records import ABStarted

_SALT_BYTES = 8


def begin_test(
    project: Project, number: str, share: float, shadow: bool, max_days: float
) -> Challenger:
    """Makes a version of the registry the challenger, or the shadow, of the champion.

    Args:
        project: Whose ledger and registry.
        number: The version.
        share: Its part of the traffic; of a shadow none.
        shadow: Whether it answers copies of the requests, and its answers are never returned.
        max_days: The longest that the test may go on.

    Raises:
        RegistryError: There is no such version, or it is the champion.
        IntegrityError: Its files are not those that were registered.
        LedgerError: A test is running already.
        ServingError: Nothing was ever deployed.
    """
    registry, ledger = Registry(project), Ledger(project.ledger_url)
    try:
        version = registry.version(number)
        with ledger.exclusive():  # `perennial clean` removes no version meanwhile
            registry.fetch(version)  # verifies every byte
            champion = read_arms(ledger).champion
            if champion.digest == version.digest:
                raise RegistryError(
                    f"version {version.version}",
                    "must not be the champion",
                    "it serves already",
                    "Choose another.",
                )
            test = ABStarted(
                champion_deployment=champion.deployment,
                challenger_version=version.version,
                challenger_digest=version.digest,
                share=0.0 if shadow else share,
                shadow=shadow,
                salt=secrets.token_hex(_SALT_BYTES),
                started_by=person(),
                max_days=max_days,
            )
            return start_test(ledger, test)
    finally:
        ledger.close()
