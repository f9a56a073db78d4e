"""Back and forward against a plain-Python model: popping never ping-pongs, and rows say what memory says."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpcserver.sessions import rows as sessions
from rpcserver.sessions.rows import NewSession
from tests.core.world import World

PLACES = ("set_a", "set_b", "set_c", "set_d")
MAX_HISTORY = 5
STEPS = st.lists(st.one_of(st.sampled_from(PLACES), st.sampled_from(("back", "forward"))), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_history_is_two_stacks(steps: list[str], tmp_path: Path) -> None:
    """cd pushes and forgets the way forward; back pops onto it; forward pops it; the oldest makes room."""
    world = World("anna")
    tx = world.tx
    session_id = sessions.insert(tx, NewSession(world.users["anna"].id, "walk"), 10)
    session = sessions.fill(tx, session_id, "set_a", "set_p", "set_q")
    here, back, forward = "set_a", list[str](), list[str]()
    for step in steps:
        if step in ("back", "forward"):
            source, target = (back, forward) if step == "back" else (forward, back)
            if not source:
                continue
            there = source.pop()
            target.append(here)
            here, way = there, step
        elif step == here:
            continue
        else:
            back, forward, here, way = [*back, here][-MAX_HISTORY:], [], step, "cd"
        session = sessions.move(tx, session, here, way, MAX_HISTORY)
        stored = sessions.find(tx, session_id)
        assert stored is not None
        for seen in (session, stored):
            assert (seen.working_set_id, list(seen.back), list(seen.forward)) == (here, back, forward)
    world.close()
