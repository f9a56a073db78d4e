"""Client stubs: the TypeScript one type-checks, the Python one type-checks and calls."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rpcserver.methods import document
from rpcserver.openrpc.document import kinds_of
from rpcserver.openrpc.stubs import python, typescript
from tests.conftest import Running, run_cli
from tests.rpcserver.test_openrpc import meta_schema_faults
from tests.toolchain import SOURCE, node_folder, run_node

TSC = ("node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--noUncheckedIndexedAccess", "--target", "es2022")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_openrpc_command_prints_the_document() -> None:
    """`rpcserver openrpc` prints a valid document, the same as the server's own."""
    printed = json.loads(run_cli("openrpc").stdout)
    assert meta_schema_faults(printed) == []
    assert printed == json.loads(json.dumps(document()))


def test_typescript_stub_type_checks(tmp_path: Path) -> None:
    """The TypeScript stub compiles with `strict`, right use of it compiles, and each wrong use is an error."""
    shutil.copyfile(SOURCE / "usage.ts", tmp_path / "usage.ts")
    (tmp_path / "api.ts").write_text(run_cli("client", "ts").stdout, "utf-8")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    checked = run_node(
        *TSC, "--module", "nodenext", "--typeRoots", str(node_folder() / "none"), str(tmp_path / "usage.ts")
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_python_stub_type_checks(tmp_path: Path) -> None:
    """The Python stub passes `mypy --strict`, and a wrong param or result is an error."""
    (tmp_path / "api.py").write_text(run_cli("client", "py").stdout, "utf-8")
    (tmp_path / "usage.py").write_text(
        "from api import Api\n"
        "from rpcserver.client import Client\n"
        "async def use(client: Client) -> str:\n"
        "    api = Api(client)\n"
        "    made = await api.session.create(name='work', _meta={'deadline_ms': 1000})\n"
        "    await api.session.destroy()\n"
        "    await api.session.cd(to='sideways')\n"
        "    return (await api.session.ls(session_id=made['session_id']))['revision']\n",
        "utf-8",
    )
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            "",
            "--follow-imports",
            "silent",
            "--cache-dir",
            str(tmp_path),
            "usage.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    faults = [line.split(": ")[0] for line in checked.stdout.splitlines() if ": error:" in line]
    assert faults == ["usage.py:6", "usage.py:7", "usage.py:8"], checked.stdout


async def test_python_stub_calls(server: Running, tmp_path: Path) -> None:
    """The Python stub over the client makes calls."""
    (tmp_path / "api.py").write_text(python(document()), "utf-8")
    api = _load(tmp_path / "api.py").Api(await server.client("anna"))
    made = await api.session.create(name="work")
    listing = await api.session.ls(session_id=made["session_id"], sections=["contents"])
    assert listing["current_set"]["set_name"] == "anna's home"
    assert await api.server.ping() == "pong"


def test_a_language_without_a_stub_is_refused() -> None:
    """`rpcserver client` names the languages there are."""
    refused = run_cli("client", "cobol")
    assert refused.returncode == 1
    assert "choose one of ts, py" in refused.stderr


@pytest.mark.parametrize("write", [typescript, python])
def test_stubs_hold_every_method_and_kind(write: object) -> None:
    """No method, type or kind of error is left out of a stub."""
    assert callable(write)
    text = write(document())
    for method in document()["methods"]:
        assert f'"{method["name"]}"' in text
    for name in (*document()["components"]["schemas"], *kinds_of(document())):
        assert name in text
