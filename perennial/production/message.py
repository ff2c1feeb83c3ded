"""A message: several notices of one project as JSON and as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.notices import NoticeKind
from schemas.records import Notice

_MOST_REASONS, _LONGEST = 5, 300
_TITLES: dict[NoticeKind, str] = {
    "failed": "a run failed",
    "data_rejected": "data was refused",
    "quarantined": "spans were quarantined",
    "kept_champion": "the champion was kept again",
    "rolled_back": "a version was rolled back",
    "overdue": "runs are overdue",
}


@dataclass(frozen=True)
class Message:
    """The contents that are sent to a target.

    Attributes:
        id: The same in all attempts, so that a receiver knows a message that it has had.
        at: When it was planned (UTC, ISO 8601).
        project: Name of the project.
        notices: Without any it is a test.
    """

    id: str
    at: str
    project: str
    notices: Sequence[Notice]

    @property
    def title(self) -> str:
        """Gives one line."""
        if not self.notices:
            return f"perennial {self.project}: this is a test, all is well"
        if len(self.notices) == 1:
            return f"perennial {self.project}: {_TITLES[self.notices[0].kind]}"
        kinds = dict.fromkeys(_TITLES[notice.kind] for notice in self.notices)
        return f"perennial {self.project}: {len(self.notices)} notices: {', '.join(kinds)}"

    @property
    def body(self) -> bytes:
        """Gives the JSON object of Standard Webhooks: type, timestamp and data."""
        data = {
            "project": self.project,
            "notices": [notice.model_dump(mode="json") for notice in self.notices],
        }
        kind = "perennial.notices" if self.notices else "perennial.test"
        return json.dumps({"type": kind, "timestamp": self.at, "data": data}).encode()

    @property
    def text(self) -> str:
        """Gives the same as lines for a person."""
        return "\n".join(line for notice in self.notices for line in _lines(notice))


def message_id(project: str, target: str, notices: Sequence[Notice]) -> str:
    """Makes the id of a message from what it tells, so that it is the same wherever it is made."""
    told = [[notice.id, notice.at, notice.run] for notice in notices]
    digest = hashlib.sha256(json.dumps([project, target, told]).encode()).hexdigest()
    return f"msg_{digest[:32]}"


def _lines(notice: Notice) -> Iterator[str]:
    yield f"{notice.at[:16].replace('T', ' ')} UTC  {notice.summary}"
    for reason in notice.reasons[:_MOST_REASONS]:
        yield f"  • {reason if len(reason) <= _LONGEST else f'{reason[:_LONGEST]}…'}"
    if (more := len(notice.reasons) - _MOST_REASONS) > 0:
        yield f"  • and {more} more"
    if notice.report:
        yield f"  report: {notice.report}"
