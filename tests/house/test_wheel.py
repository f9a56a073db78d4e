"""The built wheel: what is installed from it runs by itself, away from the checkout."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rpcserver import __version__

CHECKOUT = Path(__file__).parent.parent.parent
ROOMS = ("rpcserver", "plugins", "jobs", "core", "play", "store", "web")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the installed packages, elsewhere than in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment(installed),
    )


def environment(installed: Path) -> dict[str, str]:
    """Return an environment in which the installed packages come before the checkout's."""
    return {**os.environ, "PYTHONPATH": str(installed)}


def test_wheel_holds_rooms_schema_and_the_page(wheel: Path) -> None:
    """Every room, the tables and the browser's client are in the wheel; tests are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for room in ROOMS:
        assert f"{room}/__init__.py" in names
    for path in ("store/schema.sql", "web/client.js"):
        assert path in names
    own = {*ROOMS, f"rpcserver-{__version__}.dist-info"}
    assert {name.split("/")[0] for name in names} == own


def test_rooms_come_from_the_installed_folder(installed: Path, tmp_path: Path) -> None:
    """What runs is what was installed, its schema included."""
    script = (
        "import importlib, json, store.migrate as m\n"
        f"rooms = [importlib.import_module(name).__file__ for name in {ROOMS!r}]\n"
        "print(json.dumps([*rooms, str(m.schema_path())]))"
    )
    done = run(installed, tmp_path, "-c", script)
    assert done.returncode == 0, done.stderr
    for place in json.loads(done.stdout):
        assert Path(place).is_relative_to(installed)


def test_installed_commands_work(installed: Path, tmp_path: Path) -> None:
    """`version`, `user add`, `serve` and `call` work from the wheel, in a folder that knows nothing of the checkout."""
    data = ("--data", str(tmp_path / "data"))
    version = run(installed, tmp_path, "-m", "rpcserver", "version")
    assert version.stdout.strip() == __version__
    added = run(installed, tmp_path, "-m", "rpcserver", "user", "add", "anna", *data)
    assert added.returncode == 0, added.stderr
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "rpcserver", "serve", *data, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=tmp_path,
            env=environment(installed),
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, (tmp_path / "log").read_text()
        reach = ("--url", json.loads(line)["url"], "--credential", added.stdout.strip())
        called = run(installed, tmp_path, "-m", "rpcserver", "call", "session.ls", *reach)
        assert json.loads(called.stdout)["current_set"]["set_name"] == "anna's home"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.communicate()
