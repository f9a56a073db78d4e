"""What a job is: its function and declaration, its row, and the ways it can end."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from core.calls import Core

if TYPE_CHECKING:
    from jobs.context import JobContext

T = TypeVar("T")

Lane = Literal["memory", "local", "long"]
State = Literal["queued", "running", "waiting_input", "succeeded", "failed", "cancelled", "lost"]


@dataclass(frozen=True, slots=True)
class Commit(Generic[T]):
    """What a job returns to have its last changes stored together with its end state, or not at all.

    `fn(core)` runs inside the transaction that ends the job; its result is the job's.
    """

    fn: Callable[[Core], T]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job function as it is registered.

    Args:
        calls: the core calls it may make; any other is refused.
        lane: `memory` leaves no row and may only read; `local` starts at once and its row commits with its effects.
        timeout_s: seconds one run may take.
    """

    name: str
    fn: Callable[["JobContext", Any], Awaitable[Any]]
    input: type[BaseModel]
    calls: frozenset[str]
    lane: Lane
    timeout_s: float

    @property
    def doc(self) -> str:
        """The function's own words."""
        return (self.fn.__doc__ or "").strip()


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `jobs`; data, result and error are JSON text."""

    id: str
    function: str
    lane: str
    state: str
    owner_id: str
    session_id: str | None
    parent_id: str | None
    data: str
    result: str | None
    error: str | None
    deadline_at: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What is announced when a job has ended, inside the transaction that ends it."""

    topic: str
    job_id: str
    function: str
    owner_id: str
    session_id: str | None
    result: Any
    error: dict[str, Any] | None


def job(
    name: str,
    input: type[BaseModel],
    *,
    calls: Iterable[str] = (),
    lane: Lane = "local",
    timeout_s: float = 30.0,
) -> Callable[[Callable[["JobContext", Any], Awaitable[Any]]], JobSpec]:
    """Make a job function: `async def fn(job, data)`, with `data` an instance of `input`."""

    def declare(fn: Callable[["JobContext", Any], Awaitable[Any]]) -> JobSpec:
        return JobSpec(name, fn, input, frozenset(calls), lane, timeout_s)

    return declare
