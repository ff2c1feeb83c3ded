"""Verification: every event of a ledger is as it was appended."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.errors import LedgerError
from perennial.ledger.chain import ChainFault, find_fault
from perennial.ledger.events import NO_EVENTS, Ledger
from perennial.ledger.table import ChainedRow
from schemas.records import LedgerHead

_PAGE = 1000  # events that are read at a time
_RESTORE = (
    "Stop the runs, keep a copy of the database, and restore the newest backup that `perennial "
    "ledger verify` finds whole; the report of each run shows the head of its time."
)


def verify_ledger(ledger: Ledger, noted: LedgerHead | None = None) -> LedgerHead:
    """Checks that every event is as it was appended; gives the head.

    Args:
        ledger: The ledger.
        noted: An earlier head, which the ledger must still hold.

    Raises:
        LedgerError: An event was changed, removed or inserted; the message names the first.
    """
    heads: dict[int, LedgerHead] = {0: NO_EVENTS}  # the newest, and the one that was noted
    newest = NO_EVENTS

    def events() -> Iterator[ChainedRow]:
        nonlocal newest
        while page := ledger.read_chain(newest.number, _PAGE):
            for row in page:
                newest = LedgerHead(number=row.number, digest=row.digest)
                if noted is not None and row.number == noted.number:
                    heads[row.number] = newest
                yield row

    fault = find_fault(events())
    if fault is not None:
        raise _tampered(ledger, fault)
    if noted is not None and heads.get(noted.number) != noted:
        gone = noted.number not in heads
        raise LedgerError(
            f"{ledger.where}: event {noted.number}",
            f"must have the digest {noted.digest}, by the head that was noted",
            "no such event" if gone else f"the digest {heads[noted.number].digest}",
            f"Events were removed or written anew since that head was noted. {_RESTORE}",
        )
    return newest


def parse_head(text: str) -> LedgerHead | None:
    """Reads a head as reports show it, NUMBER:DIGEST; None: the text is none."""
    number, _, digest = text.strip().partition(":")
    if not number.isdecimal() or not digest:
        return None
    return LedgerHead(number=int(number), digest=digest.lower())


def _tampered(ledger: Ledger, fault: ChainFault) -> LedgerError:
    """Makes the message for the first event that is not as it was appended."""
    first, last = fault.numbers
    several = first != last
    events = f"events {first} to {last} were" if several else f"event {first} was"
    received = f"{events} {fault.fault}"
    if fault.row is not None:
        of_run = f" of run {fault.row.run}" if fault.row.run else ""
        received += f" ({fault.row.kind}{of_run}, dated {fault.row.at})"
    trusted = f"Events before {first} are as they were appended. " if first > 1 else ""
    return LedgerError(
        ledger.where, "must hold every event as it was appended", received, trusted + _RESTORE
    )
