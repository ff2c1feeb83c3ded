"""Writes the bill of materials of an image, CycloneDX 1.6 as JSON.

    python sbom.py PYTHON SYSTEM.TSV TARGET

It names the Python packages of PYTHON's environment, by cyclonedx-py, and the distribution's
packages that the table lists: name, version, architecture. cyclonedx-py checks it by the schema.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

SPECIFICATION = "1.6"


def main(python: str, system: str, target: str) -> None:
    """Writes the bill; ends with an error where it does not fit the schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    command = [Path(sys.executable).with_name("cyclonedx-py"), "environment", python]
    options = ["--spec-version", SPECIFICATION, "--output-reproducible", "--output-format", "JSON"]
    done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE)
    bill = json.loads(done.stdout)
    release = platform.freedesktop_os_release()
    distribution = f"{release['ID']}-{release.get('VERSION_ID', '')}"
    bill["components"] += [
        system_component(*line.split("\t"), distribution=distribution)
        for line in Path(system).read_text(encoding="utf-8").splitlines()
    ]
    text = json.dumps(bill, indent=1)
    error = JsonStrictValidator(SchemaVersion.from_version(SPECIFICATION)).validate_str(text)
    if error is not None:
        sys.exit(f"sbom: the bill must fit CycloneDX {SPECIFICATION}. Received: {error}")
    Path(target).write_text(text, encoding="utf-8")


def system_component(
    name: str, version: str, architecture: str, distribution: str
) -> dict[str, str]:
    """Describes a package of the distribution, found by scanners through its package URL."""
    system = distribution.partition("-")[0]
    where = f"arch={architecture}&distro={distribution}"
    url = f"pkg:deb/{system}/{quote(name)}@{quote(version, safe='')}?{where}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


if __name__ == "__main__":
    main(*sys.argv[1:])
