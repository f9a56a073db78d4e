"""A headless Chromium that comes with the packages of tests/javascript: nothing has to be installed on the machine."""

import fcntl
import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.toolchain import node_folder, run_node

UNPACK = """
const { brotliDecompressSync } = require("node:zlib");
const { readFileSync, writeFileSync } = require("node:fs");
for (const [from, to] of [["chromium.br", "chromium"], ["al2023.tar.br", "libraries.tar"]])
  writeFileSync(`${process.argv[1]}/${to}`, brotliDecompressSync(readFileSync(`${process.argv[2]}/${from}`)));
"""
FLAGS = (
    "--headless",
    "--no-sandbox",  # it opens pages of our own, on this machine
    "--no-zygote",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-dev-shm-usage",
)


@contextmanager
def open_page(url: str, profile: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Open a page, and close the browser with the block."""
    folder = _unpacked()
    libraries = os.pathsep.join(filter(None, (str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH"))))
    with open(profile.with_suffix(".log"), "wb") as log:
        browser = subprocess.Popen(
            [str(folder / "chromium"), *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", url],
            env={**os.environ, "LD_LIBRARY_PATH": libraries, "HOME": str(profile)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield browser
        finally:
            os.killpg(browser.pid, signal.SIGKILL)  # with the processes it made
            browser.wait(20)


def _unpacked() -> Path:
    folder = node_folder() / "chromium"
    with open(folder.with_suffix(".lock"), "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "chromium").is_file():
            _unpack(folder)
    return folder


def _unpack(folder: Path) -> None:
    aside = folder.with_suffix(".part")
    aside.mkdir(exist_ok=True)
    packed = node_folder() / "node_modules" / "@sparticuz" / "chromium" / "bin"
    done = run_node("--eval", UNPACK, str(aside), str(packed))
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO((aside / "libraries.tar").read_bytes())) as tar:
        tar.extractall(aside, members=[member for member in tar if member.isfile()], filter="data")
    (aside / "libraries.tar").unlink()
    (aside / "chromium").chmod(0o700)
    aside.rename(folder)
