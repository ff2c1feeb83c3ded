"""The loop on three days of real digits: the first champion, a retrained one, a bad day; then the server.

Works in a copy of this project, so that the example itself stays as it is.
"""

from __future__ import annotations

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

HERE = Path(__file__).resolve().parent
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")
DEMO = Path(".demo") / "digits"
PERENNIAL = Path(sys.executable).parent / "perennial"
SHOWN = 12
READY_SECONDS = 120


def main() -> int:
    """Runs the demo; gives the exit code."""
    began = time.monotonic()
    os.chdir(HERE.parent.parent)
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    for name in FILES:
        shutil.copy(HERE / name, DEMO / name)
    run_day("Day 1: the first labelled images land. There is no champion yet.", ["--days", "1"], (0,))
    run_day("Day 2: more images. Only day 2 is ingested; the candidate must hold its own.", ["--days", "2"], (0,))
    run_day("Day 3 is broken: its pixels go to 255.", ["--days", "3", "--corrupt", "3=wrong-range"], (3,))
    show("The state of things. Day 3 waits for a person, who may release or reject it.")
    execute(["perennial", "status", str(DEMO)], (0,))
    execute(["perennial", "spans", "list", str(DEMO)], (0,))
    show("The champion serves over HTTP. These images never landed:")
    with server() as url:
        ask(url)
    tell_places()
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    return 0


def run_day(title: str, landing: list[str], expected: tuple[int, ...]) -> None:
    """Lands data and runs the loop after it."""
    show(title)
    execute(["python", str(DEMO / "land.py"), *landing], (0,))
    execute(["perennial", "run", str(DEMO)], expected)


def show(title: str) -> None:
    """Prints a heading."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def execute(command: list[str], expected: tuple[int, ...]) -> None:
    """Prints a command as a person would type it, and runs it; ends the demo when it does not do as it should."""
    print("$ " + " ".join(command), flush=True)
    programs = {"python": sys.executable, "perennial": str(PERENNIAL)}
    code = subprocess.run([programs[command[0]], *command[1:]], check=False).returncode
    if code not in expected:
        sys.exit(f"error: this command should have ended with exit code {expected[0]}. Received: {code}.")


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


def ask(url: str) -> None:
    """Sends images of the last day, which never landed, and prints the answers beside the truth."""
    table = digits_of_day(DAYS)
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    body = json.dumps({"instances": [{"image": image} for image in images]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    print(f"POST {url}  ({len(images)} images of {date_of_day(DAYS)})\n")
    print("  image       truth  predicted  probability")
    for name, truth, row in list(zip(table["id"].to_pylist(), labels, answer["predictions"], strict=True))[:SHOWN]:
        mark = "" if row["class"] == truth else "  ✗"
        print(f"  {name}  {truth:>5}  {row['class']:>9}  {max(row['probabilities']):>11.2f}{mark}")
    right = sum(row["class"] == truth for row, truth in zip(answer["predictions"], labels, strict=True))
    print(f"  … {right} of {len(labels)} right, by model version {answer['model_version']}")


def tell_places() -> None:
    """Says where the reports, the newest statistics view and the registry of the demo are."""
    runs = sorted((DEMO / ".perennial" / "runs").iterdir())
    show("Where things are")
    for run in runs:
        print(f"  report      {run / 'report.html'}")
    print(f"  statistics  {max(runs[-1].glob('statistics/*.html'), default='none: the last run had no new span')}")
    print(f"  registry    mlflow ui --backend-store-uri sqlite:///{DEMO / '.perennial' / 'registry.db'}")


if __name__ == "__main__":
    sys.exit(main())
