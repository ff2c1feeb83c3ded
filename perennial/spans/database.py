"""Spans that are rows of a database: lists them and reads their rows."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, column, create_engine, func, literal_column, select, table, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.sql.expression import FromClause, Select

from perennial.errors import DataError, PerennialError, ProjectError, describe_system_error
from perennial.spans.names import LandedSpan, check_name, span_order
from perennial.storage.digests import digest_value
from schemas.project import TableSettings

_ROWS_AT_ONCE = 1000
_SETTING = "project.yaml: data.table"
# One state of the database from the first statement to the last. Others (SQLite) give it in any
# transaction.
_SNAPSHOT = {
    "postgresql": "REPEATABLE READ",
    "mysql": "REPEATABLE READ",
    "mariadb": "REPEATABLE READ",
}
# A server that vanished without a word is missed after a minute, not after the system's two hours.
_ALIVE = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_LIBPQ = ("psycopg", "psycopg2")

Group = tuple[Any, int, Any]
"""What a table says of a span: its value in the column, number of rows, and newest version."""


def find_table_spans(settings: TableSettings) -> list[LandedSpan]:
    """Finds the spans of a table, oldest first, by one grouped query.

    A span is named by its column's text; dates and times by ISO 8601 (times with a zone: in UTC).

    Raises:
        ProjectError: The settings name no table that can be read.
        DataError: The database is not there, or rows have no span.
    """
    with _connected(settings) as connection:
        groups = _groups(connection, settings)
    uri = table_uri(settings)
    landed = [
        LandedSpan(name, None, uri, _fingerprint(settings, name, group))
        for name, group in groups.items()
    ]
    return sorted(landed, key=lambda span: span_order(span.name))


def read_table_rows(
    settings: TableSettings, span: str, fingerprint: str | None = None
) -> Iterator[dict[str, Any]]:
    """Streams the rows of one span as column -> value, all from the same moment.

    Args:
        settings: The table.
        span: Name of the span.
        fingerprint: What the span had when it was selected; none: not compared.

    Raises:
        DataError: The database is not there, goes away, has no such span, or has another version of
            it.
    """
    with _connected(settings) as connection:
        groups = _groups(connection, settings).get(span, [])
        if fingerprint is not None and _fingerprint(settings, span, groups) != fingerprint:
            received = "no rows" if not groups else "other rows"
            where = f"span {span} of {table_uri(settings)}"
            raise DataError(
                where,
                "must be as the run selected it",
                received,
                "Run again when it has landed whole.",
            )
        values = [value for value, *_ in groups]
        rows: Select[Any] = select(literal_column("*")).select_from(_source(settings))
        streamed = connection.execution_options(stream_results=True, yield_per=_ROWS_AT_ONCE)
        result = streamed.execute(rows.where(_span(settings).in_(values)))
        names = _distinct(list(result.keys()), settings)
        for row in result:
            yield dict(zip(names, row, strict=True))


def table_uri(settings: TableSettings) -> str:
    """Gives the place of the rows: the database's URL without password or options, and table."""
    known = _url(settings)
    url = URL.create(known.drivername, known.username, None, known.host, known.port, known.database)
    what = settings.table or f"query-{digest_value(settings.query)[:12]}"
    return f"{url.render_as_string()}#{what}"


def _groups(connection: Connection, settings: TableSettings) -> dict[str, list[Group]]:
    """Reads for each span's name what the table says of its rows.

    Where a column without a type holds 1 and '1', they are one span.
    """
    newest: Any = func.max(column(settings.version)) if settings.version else literal_column("NULL")
    query = (
        select(_span(settings), func.count(), newest)
        .select_from(_source(settings))
        .group_by(_span(settings))
    )
    result: dict[str, list[Group]] = {}
    for value, count, version in connection.execute(query):
        if value is None:
            raise DataError(
                f"{table_uri(settings)}: column {settings.span}",
                "must name the span of every row",
                f"{count} rows without one (NULL)",
                "Fill the column, or leave these rows out with data.table.query.",
            )
        name = _name(value)
        check_name(name, table_uri(settings))
        result.setdefault(name, []).append((value, count, version))
    return result


def _distinct(names: list[str], settings: TableSettings) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        received, remedy = (
            f"{', '.join(twice)} twice",
            "Name them apart with AS in data.table.query.",
        )
        raise DataError(
            table_uri(settings), "must have columns of different names", received, remedy
        )
    return names


def _fingerprint(settings: TableSettings, name: str, groups: list[Group]) -> str:
    counts = sorted(
        [count, "" if version is None else _name(version)] for _, count, version in groups
    )
    return digest_value([settings.table, settings.query, name, counts])


def _name(value: object) -> str:
    """Gives a value of a column as text, the same in every time zone of a session."""
    if isinstance(value, datetime.datetime):
        return (value.astimezone(datetime.UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)


def _source(settings: TableSettings) -> FromClause:
    if settings.table is not None:
        schema, _, name = settings.table.rpartition(".")
        return table(name, schema=schema or None)
    query = (settings.query or "").strip().rstrip(";")
    # Colons in the user's SQL are SQL's, not parameters of ours.
    # The line break ends a comment that the query may end with.
    return text(re.sub(r"(?<!\\):", r"\\:", query) + "\n").columns().subquery("landed")


def _span(settings: TableSettings) -> Any:
    return column(settings.span)


def _url(settings: TableSettings) -> URL:
    try:
        url = make_url(settings.url)
    except ArgumentError as error:
        remedy = "For example: postgresql+psycopg://reader@host/warehouse"
        raise ProjectError(f"{_SETTING}.url", "must be an SQLAlchemy URL", error, remedy) from None
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_absolute():
        remedy = "Write four slashes: sqlite:////absolute/path.db"
        raise ProjectError(
            f"{_SETTING}.url", "must have an absolute path", url.database or "no path", remedy
        )
    return url


@contextmanager
def _connected(settings: TableSettings) -> Iterator[Connection]:
    """Opens a connection in one transaction that sees one state of the database."""
    url = _url(settings)
    _check_exists(url)
    with _reported(settings):
        engine = create_engine(url, connect_args=_ALIVE if url.get_driver_name() in _LIBPQ else {})
        snapshot = _SNAPSHOT.get(engine.dialect.name)
        options: dict[str, Any] = {"isolation_level": snapshot} if snapshot else {}
        try:
            with engine.connect().execution_options(**options) as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql(
                        "BEGIN"
                    )  # the driver begins transactions for changes only
                yield connection
        finally:
            engine.dispose()


def _check_exists(url: URL) -> None:
    # SQLite makes a database that is not there.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise DataError(
            str(url.database),
            "must be a database",
            "no such file",
            "Land it, or correct data.table.url.",
        )


@contextmanager
def _reported(settings: TableSettings) -> Iterator[None]:
    """Turns a database's error into a message about the table."""
    where = table_uri(settings)
    try:
        yield
    except PerennialError:
        raise
    except (ImportError, NoSuchModuleError) as error:
        raise ProjectError(
            f"{_SETTING}.url", "must have a driver", error, "Install the driver's package."
        ) from error
    except (OperationalError, InterfaceError) as error:
        remedy = "Check that the database runs and can be reached, then run again."
        raise DataError(where, "must be readable", _first_line(error), remedy) from error
    except SQLAlchemyError as error:
        remedy = "Check the table, its columns and the account's rights."
        raise DataError(
            where, "must be a table that can be read", _first_line(error), remedy
        ) from error


def _first_line(error: SQLAlchemyError) -> str:
    if (meaning := describe_system_error(error)) is not None:
        return meaning
    cause = str(getattr(error, "orig", None) or error).strip()
    return cause.splitlines()[0].removesuffix(".") if cause else type(error).__name__
