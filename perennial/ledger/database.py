"""Opens the ledger's database at a URL: a file of SQLite, or a database server.

A file of SQLite is read and written by Python's own `sqlite3`: a command that finds nothing to do
must not wait for SQLAlchemy to be imported (docs/adr/0016). Everything else goes through
SQLAlchemy.
"""

from __future__ import annotations

from perennial.ledger.table import EventTable, StorageError


def public_url(url: str) -> str:
    """Gives the URL of a database without its password, for messages.

    Raises:
        StorageError: It is no URL of a database.
    """
    if sqlite_path(url) is not None:
        return url
    from perennial.ledger.server import render_url

    return render_url(url)


def open_table(url: str) -> EventTable:
    """Opens the table at a URL.

    A file of SQLite is created where there is none, and migrated where it has an earlier format. A
    server's tables are changed by `migrate_tables` alone.

    Raises:
        FormatError: The tables are not in today's format.
        StorageError: The database cannot be opened.
    """
    path = sqlite_path(url)
    if path is not None:
        from perennial.ledger.sqlite import SqliteTable

        return SqliteTable(path)
    from perennial.ledger.server import ServerTable

    return ServerTable(url)


def migrate_tables(url: str) -> int:
    """Makes the tables at a URL, or brings them to today's format; gives the format they had.

    Raises:
        FormatError: A newer version of the product made them.
        StorageError: The database cannot be opened or changed.
    """
    path = sqlite_path(url)
    if path is not None:
        from perennial.ledger.sqlite import SqliteTable

        table = SqliteTable(path, reads_only=False)
        table.close()
        return table.opened_format
    from perennial.ledger.server import migrate_server

    return migrate_server(url)


def sqlite_path(url: str) -> str | None:
    """Gives the file that `sqlite:///PATH` names; None where a URL names another database.

    Raises:
        StorageError: It names SQLite, but not by a path alone.
    """
    if not url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return None
    path = url.partition(":")[2].removeprefix("///")
    if path.startswith("//") or not path or "?" in path or path == ":memory:":
        raise StorageError(f"{url}: a file of SQLite is named as sqlite:///PATH")
    return path
