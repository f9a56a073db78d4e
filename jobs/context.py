"""What a running job holds: reads and writes through its declared core calls, and jobs of its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from core.calls import Core, Scene
from jobs.model import JobSpec
from store import Store, Tx

if TYPE_CHECKING:
    from jobs.runner import JobRunner

T = TypeVar("T")

OnProgress = Callable[[float, float | None, str], None]


class JobContext:
    """The capability a job is given, in its user's name. It ends with the job: later calls are refused.

    It stands for the temporary credential of sessions.md 2.13: nothing that outlives the job is ever made.
    """

    __slots__ = ("_is_over", "_on_progress", "_runner", "_spec", "_store", "id", "session_id", "user_id")

    def __init__(
        self,
        job_id: str,
        spec: JobSpec,
        user_id: str,
        session_id: str | None,
        store: Store,
        runner: "JobRunner",
        on_progress: OnProgress | None,
    ) -> None:
        self.id = job_id
        self.user_id = user_id
        self.session_id = session_id
        self._spec = spec
        self._store = store
        self._runner = runner
        self._on_progress = on_progress
        self._is_over = False

    async def read(self, fn: Callable[[Core], T]) -> T:
        """Run `fn(core)` over one snapshot of what is committed."""
        self._check()
        return await self._store.read(lambda tx: fn(self.core(tx)))

    async def write(self, fn: Callable[[Core], T]) -> T:
        """Run `fn(core)` in a transaction of its own, stored at once; what belongs to the end goes into a Commit."""
        self._check()
        if self._spec.lane == "memory":
            raise RuntimeError(f"job {self._spec.name!r} is in the memory lane, which only reads")
        return await self._store.write(lambda tx: fn(self.core(tx)))

    async def run(self, function: str, data: dict[str, Any]) -> Any:
        """Run another job function for the same user, inside this job's time, and return its result."""
        self._check()
        return await self._runner.run(
            function, data, user_id=self.user_id, session_id=self.session_id, parent_id=self.id
        )

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the job is: `done` of `total`, or just `done` where the end is not known."""
        if self._on_progress is not None:
            self._on_progress(done, total, message)

    def core(self, tx: Tx) -> Core:
        """Return the job's declared core calls in this transaction."""
        return Core(Scene(tx, self.user_id), self._spec.name, self._spec.calls)

    def end(self) -> None:
        """Take the capability away: the runner does so when the job is over."""
        self._is_over = True

    def _check(self) -> None:
        if self._is_over:
            raise RuntimeError(f"job {self._spec.name!r} is over and can make no more calls")
