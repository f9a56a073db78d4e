"""The seam: what the other rooms know of a runner, and all they know. Another engine has to keep to it.

`jobs.runner.EmbeddedRunner` has the words for each; `tests/jobs/contract.py` the behaviour. Source: jobs.md 6.3.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from jobs.asks import Asks
from jobs.authority import Authority
from jobs.errors import CredentialEnded
from jobs.model import JobRow, JobSpec, Request
from jobs.progress import Audience, OnProgress
from jobs.schedules import Schedules
from jobs.stats import Stats
from store import Tx

Mode = Literal["now", "gently"]
Then = Callable[[Tx, Any], Any]


class JobRunner(Protocol):
    """Runs jobs, here or elsewhere."""

    asks: Asks
    audience: Audience
    schedules: Schedules
    stats: Stats

    @property
    def functions(self) -> list[JobSpec]: ...
    def spec(self, function: str) -> JobSpec | None: ...
    def register(self, spec: JobSpec) -> None: ...
    async def start(self, *, is_server: bool = True, was_killed: bool = True) -> None: ...
    async def stop(self) -> None: ...
    async def submit(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        request: Request,
        *,
        along: Callable[[Tx], Any] | None = None,
    ) -> str: ...
    async def run(
        self,
        function: str,
        data: BaseModel | dict[str, Any],
        request: Request,
        *,
        then: Then | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any: ...
    async def wait(self, job_id: str, timeout_s: float | None = None) -> JobRow: ...
    async def result(self, job_id: str) -> Any: ...
    async def cancel(self, job_id: str, mode: Mode = "now") -> bool: ...
    async def retry(self, job_id: str, by: Authority) -> str: ...
    async def release(self, job_id: str) -> bool: ...
    async def defer(self, owner_id: str, approver_id: str | None) -> None: ...
    def stop_ended(self) -> None: ...
    async def take_back(self, credential_id: str, why: CredentialEnded) -> None: ...
    async def take_up(self) -> None: ...
    async def get(self, job_id: str) -> JobRow | None: ...
