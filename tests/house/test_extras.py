"""What needs an extra says which, and how to install it, where it is not installed: before it begins."""

from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rpcserver import extras
from rpcserver.cli.demo import WALKS
from rpcserver.client import CallError, Client
from tests.conftest import Process
from tests.house.test_wheel import PROJECT
from tests.installed import Installed

OPTIONAL = PROJECT["project"]["optional-dependencies"]


def advice(extra: str) -> str:
    """Return what a person has to read."""
    return f"needs the extra {extra!r}: pip install 'rpcserver[{extra}]'"


def test_every_extra_is_known_by_what_it_brings() -> None:
    """The extras that the server knows are those of pyproject.toml, each by a package of its own."""
    assert set(extras.MODULES) == set(OPTIONAL) - {"test"}
    brought = packages_distributions()
    for extra, module in extras.MODULES.items():
        named = {Requirement(line).name for line in OPTIONAL[extra]}
        if module in brought:  # its parts may be packages of their own
            named |= {Requirement(line).name for name in tuple(named) for line in requires(name) or ()}
        assert set(map(canonicalize_name, named)) & set(map(canonicalize_name, brought.get(module, [module]))), extra


def test_default_environment_has_no_extra(installed: Installed, tmp_path: Path) -> None:
    """What is tested here is tested without them."""
    script = "from rpcserver import extras; print(extras.installed())"
    assert installed.run("python", "-c", script, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.parametrize(
    ("setting", "value", "extra"),
    [
        ("jwt_keys", "keys.json", "jwt"),
        ("stores_secret", "a secret", "kvs"),
        ("remote_hosts", '["api.example"]', "remotes"),
    ],
)
def test_a_setting_that_needs_one_keeps_the_server_from_starting(
    installed: Installed, tmp_path: Path, setting: str, value: str, extra: str
) -> None:
    """Said in one line, before the data folder is opened; the doctor says it, too."""
    variables = {f"RPCSERVER_{setting.upper()}": value, "RPCSERVER_DATA": str(tmp_path / "data")}
    done = installed.run("rpcserver", "serve", "--port", "0", cwd=tmp_path, **variables)
    assert done.returncode == 1
    assert done.stderr == f"rpcserver: the setting {setting} {advice(extra)}\n"
    assert not (tmp_path / "data").exists()
    seen = installed.run("rpcserver", "doctor", "--port", "0", cwd=tmp_path, **variables)
    assert seen.returncode == 1
    assert f"fail  extras: none; the setting {setting} {advice(extra)}" in seen.stdout


@pytest.mark.parametrize("world", sorted(WALKS))
def test_a_world_that_needs_one_is_not_begun(installed: Installed, tmp_path: Path, world: str) -> None:
    """`demo --world` says so before it makes anything."""
    done = installed.run("rpcserver", "demo", "--world", world, cwd=tmp_path, COLUMNS="200")
    assert (done.returncode, done.stdout) == (1, "")
    assert advice("scripts") in done.stderr


def test_what_a_world_needs_is_seen_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts and remotes need their extras; a remote that a person answers needs none."""
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    extras.check_world({"remotes": {"desk": {"kind": "manual"}}}, "the world")
    for world, extra in (({"scripts": {"a": {}}}, "scripts"), ({"remotes": {"a": {"kind": "http"}}}, "remotes")):
        with pytest.raises(extras.MissingExtra, match=extra):
            extras.check_world(world, "the world")


async def test_a_call_that_needs_one_is_refused_with_a_kind_of_its_own(installed: Installed, tmp_path: Path) -> None:
    """Scripts are not run, secrets not kept, in the clear least of all; the answer says what the operator can do."""
    process = Process(tmp_path / "data", python=installed.bin / "python")
    try:
        credential = installed.run("rpcserver", "user", "add", "anna", "--data", str(process.data), cwd=tmp_path)
        async with Client(process.url, credential.stdout.strip()) as anna:
            script = await anna.call("core.script.create", name="sum", text="1 + 1")
            for kind, extra, method, params in (
                ("SCRIPTS_UNAVAILABLE", "scripts", "core.script.run", {"script_id": script}),
                ("SEALING_UNAVAILABLE", "kvs", "context.db.set", {"key": "key", "value": "s3cr3t", "secret": True}),
                ("SEALING_UNAVAILABLE", "kvs", "context.db.keys", {"secret": True}),
            ):
                with pytest.raises(CallError) as caught:
                    await anna.call(method, **params)
                assert caught.value.kind == kind
                assert f"pip install 'rpcserver[{extra}]'" in caught.value.message
    finally:
        process.stop()
