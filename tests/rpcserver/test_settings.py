"""Settings: what makes no sense stops the start, and is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rpcserver.settings import Settings
from tests.conftest import run_cli


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synchronous", "OFFF"),
        ("max_in_flight", 0),
        ("call_timeout_s", -1.0),
        ("heartbeat_s", float("nan")),
        ("upkeep_s", 5e-324),
        ("ticket_life_s", 1e300),
        ("readers", 0),
        ("port", 70000),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """A typo must not switch durability, a limit or a clock off."""
    with pytest.raises(ValidationError, match=name):
        Settings.load(data=tmp_path, **{name: value})


def test_zero_is_no_limit_where_it_says_so(tmp_path: Path) -> None:
    """Where 0 stands for "no limit" it may be given."""
    assert Settings.load(data=tmp_path, calls_per_s_per_user=0.0, port=0).calls_per_s_per_user == 0


def test_a_settings_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """A broken rpcserver.toml ends in a message, not in a traceback."""
    (tmp_path / "rpcserver.toml").write_text("port = = 1")
    done = run_cli("user", "add", "anna", "--data", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "rpcserver.toml" in done.stderr


@pytest.mark.parametrize("host", ["..", "a..b", ".", "1:2", "::1::", "fe80::1%", "-a", "a b", "é", "x" * 300])
def test_a_host_that_can_be_none_is_refused(tmp_path: Path, host: str) -> None:
    """Whatever Python could not look up is told when it is read."""
    with pytest.raises(ValidationError, match="neither a host's name nor an address"):
        Settings.load(data=tmp_path, host=host)


@pytest.mark.parametrize("host", ["localhost", "a.b-c.example", "127.0.0.1", "::", "::1", "fe80::1%eth0", ""])
def test_a_host_may_be_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    """Names, addresses, addresses with their interface, and none for all of them."""
    assert Settings.load(data=tmp_path, host=host).host == host
