"""`make test-latest`: runs the tests against the newest packages that pyproject.toml allows, in a new environment.

Says what moved against the lock. A library that announces a change (a DeprecationWarning) is told and fails nothing;
in the locked run it does.
"""

import json
import re
import subprocess
import sys

from install import ROOT, Failed, pins, run
from lock import moved

FOLDER = ROOT / ".venv-latest"
PYTHON = str(FOLDER / "bin" / "python")
ANNOUNCED = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")


def main(arguments: list[str]) -> int:
    """Install, tell what moved, run the tests with these arguments of pytest; return their exit status."""
    run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], "an empty environment")
    run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--editable", ".[test]"], "the newest packages")
    there = installed()
    told = "\n".join(["Moved against requirements/test.txt:", *(moved(locked(there), there) or ["  nothing"])])
    print(told, flush=True)
    mild = [word for name in ANNOUNCED for word in ("-W", f"default::{name}")]
    tests = subprocess.run([PYTHON, "-m", "pytest", "-n", "auto", *mild, *arguments], cwd=ROOT)
    print(told)
    return tests.returncode


def installed() -> dict[str, str]:
    """Return the versions of what was installed, without this project and what every environment has."""
    command = [PYTHON, "-m", "pip", "list", "--disable-pip-version-check", "--exclude-editable", "--format", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    names = {re.sub("[-_.]+", "-", package["name"]).lower(): package["version"] for package in listed}
    return {name: version for name, version in names.items() if name not in ("pip", "setuptools")}


def locked(there: dict[str, str]) -> dict[str, str]:
    """Return what the lock has for this machine: what is for every machine, and what is here of the rest."""
    everywhere = pins("test", everywhere=True)
    return {name: version for name, version in pins("test").items() if name in everywhere or name in there}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as error:
        sys.exit(str(error))
