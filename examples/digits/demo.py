"""The loop on three days of real digits: the first champion, a retrained one, a bad day.

Then the server.

Works in a copy of this project, so that the example itself stays as it is.

    python examples/digits/demo.py                          # what `make demo` runs
    python examples/digits/demo.py --picture demo.svg       # the same, and draws it as a terminal
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from land import DAYS, date_of_day, digits_of_day
from picture import Picture

HERE = Path(__file__).resolve().parent
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")
DEMO = Path(".demo") / "digits"
PERENNIAL = Path(sys.executable).parent / "perennial"
SHOWN = 12
READY_SECONDS = 120
# The heading of each day, the arguments of land.py, and the exit code of the run after it.
DAYS_SHOWN = (
    ("Day 1: the first labelled images land. There is no champion yet.", ["--days", "1"], 0),
    (
        "Day 2: more images. Only day 2 is ingested; the candidate must prove better.",
        ["--days", "2"],
        0,
    ),
    ("Day 3 is broken: its pixels go to 255.", ["--days", "3", "--corrupt", "3=wrong-range"], 3),
)
SERVING_TITLE = "The champion serves over HTTP. These images never landed:"


def main() -> int:
    """Runs the demo; gives the exit code."""
    parser = argparse.ArgumentParser(
        description="Run the loop on three days of digits, then serve the champion."
    )
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw what is printed as SVG")
    target = parser.parse_args().picture
    target = target and target.resolve()
    picture = Picture() if target else None
    began = time.monotonic()
    os.chdir(HERE.parent.parent)
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    for name in FILES:
        shutil.copy(HERE / name, DEMO / name)
    for title, landing, expected in DAYS_SHOWN:
        show(title, picture)
        execute(["python", str(DEMO / "land.py"), *landing], 0)
        execute(["perennial", "run", str(DEMO)], expected, picture)
    show("The state of things. Day 3 waits for a person: to judge again, release or reject it.")
    execute(["perennial", "status", str(DEMO)], 0)
    execute(["perennial", "spans", "list", str(DEMO)], 0)
    show(SERVING_TITLE, picture)
    if picture:
        picture.command(["perennial", "serve", str(DEMO)])
    with server() as url:
        answers = ask(url)
    print("\n".join(answers))
    tell_places()
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    if picture:
        picture.lines(answers)
        picture.save(target)
        print(f"picture     {target}")
    return 0


def show(title: str, picture: Picture | None = None) -> None:
    """Prints a heading, and draws it where there is a picture."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)
    if picture:
        picture.heading(title)


def execute(command: list[str], expected: int, picture: Picture | None = None) -> None:
    """Prints a command as a person would type it, and runs it.

    Ends the demo when its exit code is another.
    """
    print("$ " + " ".join(command), flush=True)
    programs = {"python": sys.executable, "perennial": str(PERENNIAL)}
    # For a picture the output is read, so that the command writes plain lines instead of its live
    # display.
    done = subprocess.run(
        [programs[command[0]], *command[1:]],
        check=False,
        stdout=subprocess.PIPE if picture else None,
        text=True,
    )
    if picture:
        print(done.stdout, end="", flush=True)
        picture.command(command)
        picture.run(done.stdout.splitlines())
    if done.returncode != expected:
        sys.exit(
            f"error: this command should have ended with exit code {expected}. Received: "
            f"{done.returncode}."
        )


@contextmanager
def server() -> Iterator[str]:
    """Runs `perennial serve` for a while; gives the URL of its model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["serve", str(DEMO), "--port", str(port)]
    print("$ perennial " + " ".join(command), flush=True)
    log = DEMO / ".perennial" / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen([PERENNIAL, *command], stdout=output, stderr=output)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/v2/models/digits/ready", log)
        yield f"http://127.0.0.1:{port}/v1/models/digits:predict"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Waits until the server answers; ends the demo when it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    sys.exit(f"error: the server did not become ready; {log} tells why.")


def ask(url: str) -> list[str]:
    """Sends images of the last day, which never landed.

    Gives the answers beside the truth as lines of a table.
    """
    table = digits_of_day(DAYS)
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    body = json.dumps({"instances": [{"image": image} for image in images]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    print(f"POST {url}  ({len(images)} images of {date_of_day(DAYS)})\n")
    lines = ["  image       truth  predicted  probability"]
    for name, truth, row in list(
        zip(table["id"].to_pylist(), labels, answer["predictions"], strict=True)
    )[:SHOWN]:
        mark = "" if row["class"] == truth else "  ✗"
        lines.append(
            f"  {name}  {truth:>5}  {row['class']:>9}  {max(row['probabilities']):>11.2f}{mark}"
        )
    right = sum(
        row["class"] == truth for row, truth in zip(answer["predictions"], labels, strict=True)
    )
    lines.append(f"  … {right} of {len(labels)} right, by model version {answer['model_version']}")
    return lines


def tell_places() -> None:
    """Says where the reports, the newest statistics view and the registry of the demo are."""
    runs = sorted((DEMO / ".perennial" / "runs").iterdir())
    show("Where things are")
    for run in runs:
        print(f"  report      {run / 'report.html'}")
    print(
        "  statistics  "
        f"{max(runs[-1].glob('statistics/*.html'), default='none: the last run had no new span')}"
    )
    print(
        "  registry    mlflow ui --backend-store-uri "
        f"sqlite:///{DEMO / '.perennial' / 'registry.db'}"
    )


if __name__ == "__main__":
    sys.exit(main())
