"""Starting jobs of the guest in `jobs_guest.py`, and the kinds of errors they end with."""

from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client

GUEST = Path(__file__).with_name("jobs_guest.py")


async def start(client: Client, function: str, **params: Any) -> str:
    """Start a job without waiting for it."""
    answer = await client.call("job.run", function=function, wait=False, **params)
    assert answer["state"] == "queued"
    return str(answer["job_id"])


async def kind_of(awaited: Any) -> str | None:
    """Return the kind of error a call is answered with."""
    with pytest.raises(CallError) as caught:
        await awaited
    return caught.value.kind
