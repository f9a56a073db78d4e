"""The files of deploy/ agree with the settings they go with."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from rpcserver.app import running
from rpcserver.client import Client
from rpcserver.settings import Settings
from rpcserver.transport import start_checks
from rpcserver.transport.listening import SPARE_FILES

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS = Settings.model_construct()


def value(file: str, pattern: str) -> str:
    """Return what a line of a file says."""
    found = re.search(pattern, (DEPLOY / file).read_text("utf-8"), re.M)
    assert found is not None, pattern
    return found[1]


def test_the_unit_leaves_time_and_files_enough() -> None:
    """systemd waits longer than calls may take to end, and allows a file for every connection."""
    stops_within_s = SETTINGS.shutdown_grace_s + SETTINGS.stop_margin_s
    assert float(value("rpcserver.service", r"^TimeoutStopSec=(\d+)$")) > stops_within_s
    assert int(value("rpcserver.service", r"^LimitNOFILE=(\d+)$")) >= SETTINGS.max_connections + SPARE_FILES


def test_everything_speaks_of_one_port() -> None:
    """The socket, the proxies and the image name the default port."""
    port = str(SETTINGS.port)
    assert value("rpcserver.socket", r"^ListenStream=127\.0\.0\.1:(\d+)$") == port
    assert value("nginx.conf", r"proxy_pass http://127\.0\.0\.1:(\d+);") == port
    assert value("Caddyfile", r"reverse_proxy 127\.0\.0\.1:(\d+)") == port
    assert value("Dockerfile", r"^EXPOSE (\d+)$") == port


def test_the_proxy_waits_longer_than_two_heartbeats() -> None:
    """An idle connection is kept by pings before the proxy gives it up."""
    for name in ("read", "send"):
        assert float(value("nginx.conf", rf"proxy_{name}_timeout (\d+)s;")) > 2 * SETTINGS.heartbeat_s


def test_the_image_is_built_of_what_it_is_given(tmp_path: Path) -> None:
    """The Dockerfile's own commands build the wheel from the files that are not kept from the image, from the lock."""
    allowed = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8"), re.M)
    for name in allowed:
        source, target = DEPLOY.parent / name, tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)
    written = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    commands = [part.strip() for line in re.findall(r"^RUN (.*)$", written, re.M) for part in line.split("&&")]
    (build,) = [command for command in commands if re.fullmatch(r"pip wheel .* \.", command)]
    command = [sys.executable, "-m", *build.replace("/wheels", str(tmp_path / "wheels")).split()]
    done = subprocess.run(command, cwd=tmp_path / "source", capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "wheels").glob("rpcserver-*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    packages = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert set(packages["targets"]["wheel"]["packages"]) <= names
    for path in re.findall(r"--requirement (\S+)", written):
        assert (tmp_path / "source" / path).is_file()


async def test_a_first_container_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started as the image says, without a flag: reachable from outside, told that TLS ends before it; no page may."""
    written = (DEPLOY / "Dockerfile").read_text("utf-8")
    told = dict(re.findall(r"(RPCSERVER_\w+)=(\S+)", "\n".join(re.findall(r"^ENV .*$", written, re.M))))
    assert re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", written, re.M) == ['["rpcserver"]', '["serve"]']
    for name, text in {**told, "RPCSERVER_DATA": str(tmp_path / "data")}.items():
        monkeypatch.setenv(name, text)
    settings = Settings.load()
    assert (settings.host, settings.is_local, settings.tls_cert) == ("0.0.0.0", False, None)
    start_checks.check(settings)
    async with running(settings.model_copy(update={"host": "127.0.0.1", "port": 0})) as app:
        async with Client(app.server.url, await app.operate("operator.user_add", name="anna")) as client:
            assert await client.call("server.ping") == "pong"
        with pytest.raises(InvalidStatus, match="403"):
            await connect(app.server.url, origin=Origin("https://app.example.org"), proxy=None)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """The units have the sections they need and, where there is a systemd to ask, it finds no fault in them."""
    for name, sections in (("rpcserver.service", {"Unit", "Service"}), ("rpcserver.socket", {"Socket", "Install"})):
        assert sections <= set(re.findall(r"^\[(\w+)\]$", (DEPLOY / name).read_text("utf-8"), re.M))
    if shutil.which("systemd-analyze") is None:
        return
    for name in ("rpcserver.service", "rpcserver.socket"):
        text = (DEPLOY / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("/opt/rpcserver/bin/rpcserver", "/bin/true"))
    units = [str(tmp_path / name) for name in ("rpcserver.socket", "rpcserver.service")]
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
