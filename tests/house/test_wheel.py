"""The built wheel, installed with what it needs and no more: by itself, and beside packages of its names."""

import json
import tomllib
import zipfile
from pathlib import Path

import pytest

from rpcserver import __version__, packages
from tests.installed import CHECKOUT, Installed, default_environment

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
ROOMS = tuple(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
TAKEN = [room for room in ROOMS if room != "rpcserver"]


def test_wheel_holds_rooms_schema_and_the_page(wheel: Path) -> None:
    """Every room, the tables and the browser's client are in the wheel; tests are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for room in ROOMS:
        assert f"{room}/__init__.py" in names
    for path in ("store/schema.sql", "rpcserver/web/client.js"):
        assert path in names
    own = {*ROOMS, f"rpcserver-{__version__}.dist-info"}
    assert {name.split("/")[0] for name in names} == own


def test_the_rooms_looked_at_are_those_there_are() -> None:
    """The start looks at every package of the wheel."""
    assert packages.ROOMS == ROOMS


def test_rooms_come_from_the_installed_folder(installed: Installed, tmp_path: Path) -> None:
    """What runs is what was installed, its schema included."""
    script = (
        "import importlib, json, store.migrate as m\n"
        f"rooms = [importlib.import_module(name).__file__ for name in {ROOMS!r}]\n"
        "print(json.dumps([*rooms, str(m.schema_path())]))"
    )
    done = installed.run("python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for place in json.loads(done.stdout):
        assert Path(place).is_relative_to(installed.folder)


def strange(folder: Path, name: str) -> Path:
    """Lay down a package of somebody else's that would be imported instead of ours, and must not be."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('a stranger was imported')\n")
    return package


def refused(done: object, *told: str) -> None:
    """Check that a command ended with one line that says what stands in the way."""
    assert done.returncode == 1 and done.stdout == ""  # type: ignore[attr-defined]
    (line,) = done.stderr.splitlines()  # type: ignore[attr-defined]
    assert line.startswith("rpcserver: ")
    for text in told:
        assert text in line


@pytest.mark.parametrize("room", TAKEN)
def test_a_package_before_ours_is_told(installed: Installed, tmp_path: Path, room: str) -> None:
    """In a folder with a package of a room's name `python -m` says so, and the command does with it in PYTHONPATH."""
    place = strange(tmp_path / "project", room)
    told = (f"the package {room!r} would come from {place}", "environment of its own")
    refused(installed.run("python", "-m", "rpcserver", "version", cwd=place.parent), *told)
    refused(installed.run("rpcserver", "version", cwd=tmp_path, PYTHONPATH=str(place.parent)), *told)


def test_a_module_before_ours_is_told(installed: Installed, tmp_path: Path) -> None:
    """A single file of a room's name is as much in the way as a folder."""
    (tmp_path / "heroscript.py").write_text("raise SystemExit('a stranger was imported')\n")
    refused(
        installed.run("python", "-m", "rpcserver", "version", cwd=tmp_path),
        "'heroscript'",
        str(tmp_path / "heroscript.py"),
    )


def test_the_command_does_not_look_into_the_folder_it_is_run_in(installed: Installed, tmp_path: Path) -> None:
    """The command runs beside such packages, and so does what the demo starts; mere folders do no harm."""
    for room in TAKEN:
        strange(tmp_path / "project", room)
        (tmp_path / "folders" / room).mkdir(parents=True)
    data = ("--data", str(tmp_path / "data"))
    added = installed.run("rpcserver", "user", "add", "anna", *data, cwd=tmp_path / "project")
    assert added.returncode == 0, added.stderr
    script = "from rpcserver.cli.demo import command; from rpcserver.cli.demo import Screen; command(Screen(), *{})"
    arguments = ("user", "add", "bob", *data)
    started = installed.run("python", "-P", "-c", script.format(arguments), cwd=tmp_path / "project")
    assert started.returncode == 0, started.stderr
    assert installed.run("python", "-m", "rpcserver", "version", cwd=tmp_path / "folders").returncode == 0


@pytest.mark.slow
def test_packages_of_one_folder(wheel: Path, tmp_path: Path) -> None:
    """A package installed over ours is told, also when it is gone again; ours installed over it runs."""
    theirs = tmp_path / "stranger-1.0-py3-none-any.whl"
    with zipfile.ZipFile(theirs, "w") as archive:
        info = "stranger-1.0.dist-info"
        kind = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("jobs/__init__.py", "raise SystemExit('a stranger was imported')\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", kind)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    made = default_environment(tmp_path / "environment")
    made.install(theirs)
    made.install(wheel)
    assert made.run("rpcserver", "plugins", "list", cwd=tmp_path).returncode == 0
    made.install(theirs)
    told = ("jobs", "was installed over it", "environment of its own")
    refused(made.run("rpcserver", "plugins", "list", cwd=tmp_path), *told)
    (made.packages / "jobs" / "__init__.py").unlink()
    refused(made.run("rpcserver", "plugins", "list", cwd=tmp_path), *told)
