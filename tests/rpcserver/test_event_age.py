"""How long events are kept for clients that come back."""

from pathlib import Path

import pytest

from tests.conftest import run_server


@pytest.mark.parametrize(("max_event_age_s", "is_recovered"), [(3600.0, True), (0.0005, False)])
async def test_events_are_kept_for_their_time(tmp_path: Path, max_event_age_s: float, is_recovered: bool) -> None:
    """A client that comes back hears what it missed, or is told that it is no longer kept; never a part of it."""
    async with run_server(tmp_path / "data") as before:
        anna = await before.client("anna")
        subscription = await anna.subscribe("session.*")
        position = (subscription.epoch, subscription.seq)
        for name in ("one", "two", "three"):
            await anna.create_session(name)
        credential = await before.credential("anna")
    async with run_server(tmp_path / "data", max_event_age_s=max_event_age_s) as after:
        after.credentials["anna"] = credential
        anna = await after.client("anna")
        resumed = await anna.subscribe("session.created", since=position)
        assert resumed.recovered is is_recovered
        # Positions go on: a new event is never mistaken for an old one.
        await anna.create_session("four")
        heard = [(await resumed.next()).seq for _ in range(4 if is_recovered else 1)]
        assert heard == sorted(set(heard)) and heard[-1] > position[1] + 3
