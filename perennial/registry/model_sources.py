"""Checks that a version's files lie among the artifacts of the run that made it.

Whoever can write to a registry could point a version at any folder that the reader can open.
MLflow's server checks this when a version is made (`_validate_source_run`); its database behind
SQLite does not, so that it is checked here.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit


def lies_within(source: str, root: str) -> bool:
    """Tells whether a path or URI is `root` or lies below it, links and dots followed."""
    inner, outer = urlsplit(source), urlsplit(root)
    if _is_local(inner.scheme) and _is_local(outer.scheme):
        return bool(inner.path) and Path(_path(source)).resolve().is_relative_to(
            Path(_path(root)).resolve()
        )
    parts, roots = (unquote(url.path).strip("/").split("/") for url in (inner, outer))
    plain = (
        not (inner.query or inner.fragment)
        and not {"..", "."} & set(parts)
        and "%" not in unquote(inner.path)
    )
    same = (inner.scheme, inner.netloc) == (outer.scheme, outer.netloc)
    return plain and same and bool(outer.path.strip("/")) and parts[: len(roots)] == roots


def local_path(source: str) -> Path | None:
    """Gives the path that a local URI or path names; None: it names another place."""
    return Path(_path(source)) if _is_local(urlsplit(source).scheme) else None


def _is_local(scheme: str) -> bool:
    return scheme in ("", "file")


def _path(uri: str) -> str:
    """Gives the path of a local URI; a plain path stays as it is, with its percent signs."""
    split = urlsplit(uri)
    return unquote(split.path) if split.scheme else uri
