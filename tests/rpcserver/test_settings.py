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
