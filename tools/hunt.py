"""Runs the random test of a whole project, with other draws each time, until the time is up.

Each round prints its seed, and the command that repeats it. It ends with exit code 1 where
something that must hold did not.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time

TESTS = "tests/model"


def main() -> int:
    """Runs rounds until the time is up; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="begin no round after these")
    parser.add_argument("--seed", type=int, help="of the first round; else one is drawn")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    seed = options.seed
    while True:
        seed = secrets.randbelow(1 << 32) if seed is None else seed
        drawn = ["--hypothesis-profile=hunt", f"--hypothesis-seed={seed}"]
        print(f"seed {seed}; again: make hunt MINUTES=0 SEED={seed}", flush=True)
        command = [sys.executable, "-m", "pytest", TESTS, "-q", "-x", "-p", "no:cacheprovider"]
        ended = subprocess.run([*command, *drawn], check=False).returncode
        if ended:
            print(f"broken with seed {seed}; again: make hunt MINUTES=0 SEED={seed}", flush=True)
            return 1
        if time.monotonic() >= until:
            return 0
        seed = None


if __name__ == "__main__":
    sys.exit(main())
