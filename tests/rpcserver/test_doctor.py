"""rpcserver doctor: finds each thing that is wrong, and says what to do."""

import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.cli import doctor
from rpcserver.settings import Settings
from tests.conftest import Process, run_cli


def found(data: Path, **settings: Any) -> dict[str, tuple[str, str, str]]:
    """Return {first word: (level, what, remedy)} of what the doctor finds."""
    findings = doctor.look(Settings.load(data=data, port=settings.pop("port", 0), **settings))
    return {one.what.split()[0].rstrip(":"): (one.level, one.what, one.remedy) for one in findings}


def test_a_good_place(tmp_path: Path) -> None:
    """Where nothing is wrong nothing fails, and the data folder need not be there yet."""
    looked = found(tmp_path / "data")
    assert {level for level, _, _ in looked.values()} <= {"ok", "warn"}
    assert "will be made" in looked["data"][1]
    assert not (tmp_path / "data").exists()


def test_a_folder_others_can_read(tmp_path: Path) -> None:
    """A data folder open to others is told, with the command that closes it."""
    tmp_path.chmod(0o755)
    level, _, remedy = found(tmp_path)["data"]
    assert (level, remedy.split(":")[0]) == ("warn", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert found(tmp_path)["data"][0] == "ok"


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    """A file where the folder should be is a failure."""
    (tmp_path / "data").write_text("")
    assert found(tmp_path / "data")["data"][0] == "fail"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place this user may not write to is a failure; root may write everywhere, so the system's word is changed."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert found(tmp_path / "data")["data"][0] == "fail"


def test_a_damaged_or_newer_database(tmp_path: Path) -> None:
    """A database that cannot be used is a failure: a backup, or an upgrade, is the remedy."""
    run_cli("user", "add", "anna", "--data", str(tmp_path))
    path = tmp_path / "rpcserver.db"
    assert found(tmp_path)["database"][0] == "ok"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    assert found(tmp_path)["database"][::2] == ("fail", "upgrade rpcserver")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    level, _, remedy = found(tmp_path)["database"]
    assert level == "fail"
    assert "restore" in remedy


def test_the_port_and_the_running_server(serve: Callable[..., Process]) -> None:
    """A port another program listens on is a failure; our own server there is not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert found(Path("/nonexistent"), port=taken.getsockname()[1])["port"][0] == "fail"
    process = serve()
    port = int(process.url.rstrip("/").rpartition(":")[2])
    looked = found(process.data, port=port)
    assert looked["port"][0] == "ok"
    assert f"process {process.process.pid}" in looked["database"][1]
    level, reason, remedy = found(process.data.parent / "other", port=port)["port"]
    assert level == "fail" and "an rpcserver that runs on another data folder" in reason and "--port" in remedy


def test_no_room_on_the_disk(tmp_path: Path) -> None:
    """Less room than the settings ask for is a failure."""
    assert found(tmp_path, min_free_disk_bytes=2**60)["disk"][0] == "fail"


def test_exposure(tmp_path: Path) -> None:
    """An address others reach is told of, and that no name is served there."""
    assert found(tmp_path, host="127.0.0.1")["address"][0] == "ok"
    looked = found(tmp_path, host="0.0.0.0", origins=("https://app.example.org/",))
    assert (looked["address"][0], looked["hosts"][0]) == ("warn", "warn")


def test_the_open_files(tmp_path: Path) -> None:
    """More connections than files may be open are told of."""
    assert found(tmp_path, max_connections=10**9)["open"][0] == "warn"
    assert found(tmp_path, max_connections=10)["open"][0] == "ok"


def test_a_plugin_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A broken plugin is a failure with its name."""
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    level, what, _ = found(tmp_path, plugins=(broken,))["plugins"]
    assert level == "fail"
    assert "broken" in what


@pytest.mark.parametrize(("version", "level"), [((3, 40, 1), "warn"), ((3, 51, 2), "warn"), ((3, 51, 3), "ok")])
def test_the_sqlite_version(version: tuple[int, int, int], level: str) -> None:
    """SQLite before 3.51.3 is warned of."""
    assert doctor._sqlite(version).level == level


def test_the_command(tmp_path: Path) -> None:
    """The command prints findings with remedies, exits with 1 when something fails, and names a wrong setting."""
    good = run_cli("doctor", "--data", str(tmp_path / "data"), "--port", "0")
    assert good.returncode == 0, good.stdout
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in good.stdout
    bad = run_cli("doctor", "--data", str(tmp_path / "data"), "--port", "0", "--origin", "app.example.org")
    assert bad.returncode == 1
    assert "write https://app.example.org" in bad.stderr
    wrong = run_cli("doctor", "--data", str(tmp_path / "data"), env={**os.environ, "RPCSERVER_READERS": "many"})
    assert (wrong.returncode, wrong.stderr.split(":")[1]) == (1, " setting readers")


def test_health_names_a_folder_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file, and a folder nobody serves: what is wrong with it is told, not only that nobody answers."""
    (tmp_path / "README.md").write_text("x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for name, said in (("README.md", "README.md is a file: give --data a folder"), ("none", "no server runs on")):
            settings = Settings.load(data=tmp_path / name, port=taken.getsockname()[1])
            assert doctor.ask_ready(settings, is_address_given=False) == 1
            assert said in capsys.readouterr().out


def test_health(serve: Callable[..., Process], tmp_path: Path) -> None:
    """`rpcserver health` tells by its exit status whether the server is ready, at a port or on a data folder."""
    process = serve()
    port = process.url.rstrip("/").rpartition(":")[2]
    for where in (("--port", port), ("--data", str(process.data))):
        assert run_cli("health", *where).returncode == 0
    process.stop()
    for where in (("--port", port), ("--data", str(process.data))):
        assert run_cli("health", *where).returncode == 1
