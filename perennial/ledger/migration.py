"""Migration of the ledger's tables to the format that this version of the product writes."""

from __future__ import annotations

from perennial.errors import LedgerError
from perennial.ledger.database import migrate_tables, public_url
from perennial.ledger.table import FORMAT, FormatError, StorageError


def migrate_ledger(url: str) -> int:
    """Makes the ledger's tables at a URL, or brings them to today's format.

    Returns:
        The format that they had; 0: there were none.

    Raises:
        LedgerError: They cannot be changed, or a newer version of the product made them.
    """
    where = "ledger"
    try:
        where = f"ledger at {public_url(url)}"
        return migrate_tables(url)
    except FormatError as error:
        raise other_format(where, error) from error
    except (StorageError, OSError) as error:
        remedy = "Check ledger.url, and that its account may create and change tables there."
        raise LedgerError(where, "must be possible to migrate", error, remedy) from error


def other_format(where: str, error: FormatError) -> LedgerError:
    """Makes the message for tables that this version of the product does not write."""
    if error.existing > FORMAT:
        return LedgerError(
            where,
            f"must have format {FORMAT} or an earlier one",
            f"format {error.existing}",
            "A newer version of Perennial migrated it: use that version here, too.",
        )
    return LedgerError(
        where,
        f"must have tables of format {FORMAT}",
        f"format {error.existing}" if error.existing else "none of the ledger's tables",
        "Run `perennial ledger migrate PROJECT`, by an account that may change tables.",
    )
