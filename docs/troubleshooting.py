"""Makes docs/troubleshooting.md: every message of the tree of errors.

The messages are read from the calls that make the errors.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from perennial import errors

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("schemas", "perennial", "components", "serving", "pipelines")
ARGUMENTS = ("where", "expected", "received", "remedy")

START = """\
# Troubleshooting: what does this message mean, and what do I do?

```text
project.yaml: gate.marginn must be one of the known keys (mode, margin, …). Received: marginn.
Did you mean `margin`?
```

Every message says where something is wrong, what must be so, what there is instead, and what to do.
Search this page for the words that do not come from your project; "…" stands for those that do. The
exit code tells a script what kind of fault it is. An error that is not listed here is a fault of
Perennial's own: the log that the message names has the rest. A setting that is out of its bounds is
told with them; [settings](settings.md) has them all.
"""


@dataclass(frozen=True, order=True)
class Message:
    """One message, with "…" for what depends on the project, and the module that raises it."""

    expected: str
    where: str
    remedy: str
    module: str

    def row(self) -> str:
        """A row of the page's table."""
        link = f"[{Path(self.module).stem}](../{self.module})"
        cells = [f"{self.where} {self.expected}", self.remedy]
        return f"| {' | '.join(_cell(text) for text in cells)} | {link} |"


def render() -> str:
    """Renders the page without the note that it is generated."""
    messages: dict[str, set[Message]] = {kind: set() for kind in _kinds()}
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for kind, message in _messages(path):
            messages[kind].add(message)
    sections = [_section(kind, each) for kind, each in messages.items() if each]
    return "\n".join([START, *sections])


def _cell(text: str) -> str:
    """The text in one line of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _kinds() -> list[str]:
    """Lists the errors that have a message of their own; one repeats those of others."""
    classes = [each for each in vars(errors).values() if inspect.isclass(each)]
    return [
        each.__name__
        for each in classes
        if issubclass(each, errors.PerennialError) and each is not errors.FailedBeforeError
    ]


def _section(kind: str, messages: set[Message]) -> str:
    error = getattr(errors, kind)
    meaning = (inspect.getdoc(error) or "").splitlines()[0]
    head = [f"## {kind}", "", f"{meaning} Exit code {error.exit_code}.", ""]
    head += ["| message | what to do | from |", "| --- | --- | --- |"]
    return "\n".join([*head, *(message.row() for message in sorted(messages)), ""])


def _messages(path: Path) -> Iterator[tuple[str, Message]]:
    kinds, tree = _kinds(), ast.parse(path.read_text(encoding="utf-8"))
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts = _assigned(tree.body) | _assigned(ast.walk(scope))
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in kinds:
                given = dict(zip(ARGUMENTS, node.args, strict=False))
                given |= {word.arg: word.value for word in node.keywords if word.arg}
                wheres, expecteds, _, remedies = (
                    _texts(given.get(name), texts) for name in ARGUMENTS
                )
                remedy = " / ".join(remedies)
                if "remedy" not in given:
                    remedy = (
                        inspect.signature(getattr(errors, node.func.id))
                        .parameters["remedy"]
                        .default
                    )
                for expected in filter(lambda text: text.strip("… "), expecteds):
                    module = str(path.relative_to(ROOT))
                    yield node.func.id, Message(expected, wheres[0], remedy, module)


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """Finds the names that are given a text, once each, alone or several in one statement."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    assigned.setdefault(name.id, []).append(value)
    return {name: values[0] for name, values in assigned.items() if len(values) == 1}


def _texts(node: ast.expr | None, names: dict[str, ast.expr]) -> list[str]:
    """Gives the literal texts that an argument may have, with "…" for what is computed."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr | ast.BinOp):
        return ["".join(texts) for texts in product(*_parts(node, names))]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, names), *_texts(node.orelse, names)]
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        others = {name: value for name, value in names.items() if name != node.id}
        return _texts(names[node.id], others)
    return ["…"]


def _parts(node: ast.JoinedStr | ast.BinOp, names: dict[str, ast.expr]) -> list[list[str]]:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node.left, node.right]
    return [_texts(part, names) for part in parts]
