"""Makes Great Expectations' Data Docs a site that reads well without a network.

The pages load styles, scripts and a tracking picture from public hosts, and their index is drawn by
a script: without a network the index is blank, and with one, looking at data would call out to
strangers.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from perennial.storage.atomic import publish_text
from schemas.records import Check

INDEX = "index.html"
_EXTERNAL = re.compile(
    r'<link[^>]*href="https?://[^>]*>|<img[^>]*src="https?://[^>]*>|<script[^>]*src="https?://[^>]*>\s*</script>'
)
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .8rem .3rem 0;
border-bottom: 1px solid #d8dee4; vertical-align: top; } a { color: #0b5394; } h1 { font-size: 1.5rem; }
.fa-check-circle::before { content: "✓"; color: #116329; } .failed, .text-danger { color: #a40e26; }
.fa-times::before, .fa-exclamation-triangle::before { content: "✕"; color: #a40e26; }
footer, .navbar-brand, input[type=radio], #ge-cta-footer, .cooltip { display: none; }
</style>"""


def finish_site(site: Path, span: str, checks: Sequence[Check]) -> None:
    """Rewrites the pages below `site` to need nothing from outside, and writes an index.

    `checks` says which expectations of the span failed; the site must hold one run.
    """
    for folder in ("images", "fonts"):
        shutil.rmtree(site / "static" / folder, ignore_errors=True)
    for page in site.rglob("*.html"):
        text = _EXTERNAL.sub("", page.read_text(encoding="utf-8"))
        publish_text(text.replace("</head>", f"{_STYLE}</head>", 1), page)
    publish_text(_index(site, span, checks), site / INDEX)


def _index(site: Path, span: str, checks: Sequence[Check]) -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{_STYLE}</head><body>'
        "<h1>Data Docs</h1><table><tr><th>span</th><th>expectations met</th>"
        "<th>met by the rows that are left</th><th>not met</th></tr>"
        f"{_row(site, span, checks)}</table>"
        '<p><a href="expectations/expectations.html">All expectations</a></p></body></html>'
    )


def _row(site: Path, span: str, checks: Sequence[Check]) -> str:
    page = next((site / "validations").rglob("*.html")).relative_to(site)
    link = html.escape(quote(page.as_posix()), quote=True)
    met = sum(check.verdict == "passed" for check in checks)
    left, missed = (
        html.escape(
            ", ".join(dict.fromkeys(check.subject for check in checks if check.verdict == verdict))
        )
        for verdict in ("set_aside", "failed")
    )
    name = f'<a href="{link}">{html.escape(span)}</a>'
    return f'<tr><td>{name}</td><td>{met}</td><td>{left}</td><td class="failed">{missed}</td></tr>'
