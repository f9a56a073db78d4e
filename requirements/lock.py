"""Makes the locks from the ranges of pyproject.toml: `make lock`, and `make lock UPGRADE=1` for the newest they allow.

Without that, what is locked stays as it is where the ranges still allow it. The lock of the tests is made first, the
others hold to it, so that all of them agree.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

from install import LOCKS, ROOT, SOURCES, Failed, pins, run

UV = "uv==0.13.9"
TOOLS = ROOT / ".venv-lock"
SETS = {"test": ("--extra", "test"), "run": (), "image": ("--extra", "fast"), "build": ("--group", "build")}
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
SYSTEMS = ("x86_64-manylinux_2_39", "aarch64-manylinux_2_39", "aarch64-apple-darwin")


def main() -> int:
    """Write the locks, tell what moved, and return 1 when one holds what has no wheel for a supported Python."""
    run([sys.executable, "-m", "venv", str(TOOLS)], "an environment for uv")
    run([str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", UV], UV)
    before = {name: pins(name) for name in SETS if (LOCKS / f"{name}.txt").exists()}
    upgrade = ("--upgrade",) if os.environ.get("UPGRADE") else ()
    for name, chosen in SETS.items():
        agreed = () if name == "test" else ("--constraint", "requirements/test.txt")
        source = () if name == "build" else ("pyproject.toml",)
        done = uv(*upgrade, *chosen, *agreed, "--output-file", f"requirements/{name}.txt", *source)
        if done.returncode != 0:
            raise Failed(done.stderr)
        print("\n".join([f"{name}.txt: {len(pins(name))} packages", *moved(before.get(name, {}), pins(name))]))
    missing = list(without_wheels())
    print("\n".join(missing) or f"All have wheels for Python {', '.join(PYTHONS)} on {', '.join(SYSTEMS)}.")
    return 1 if missing else 0


def moved(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a line for each package whose version is another one, and for each that came or went."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"  {name}: {before.get(name, 'not there')} -> {after.get(name, 'gone')}" for name in names]


def without_wheels() -> Iterator[str]:
    """Name, for each supported Python and system, the first locked package without a wheel there.

    Those of SOURCES are pure Python and have none.
    """
    locks = [f"requirements/{name}.txt" for name in SETS]
    for python in PYTHONS:
        for system in SYSTEMS:
            target = ("--no-universal", "--python-version", python, "--python-platform", system)
            done = uv(*target, "--no-deps", *locks)
            if done.returncode != 0:
                found = re.search(r"Because (\S+) has no usable wheels", done.stderr)
                yield f"No wheel for Python {python} on {system}: {found[1] if found else done.stderr}"


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `uv pip compile`, whose other options stand in pyproject.toml."""
    sources = [word for name in SOURCES for word in ("--no-binary", name)]
    command = [str(TOOLS / "bin" / "uv"), "pip", "compile", "--quiet", "--only-binary", ":all:", *sources, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(str(error))
