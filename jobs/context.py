"""What a running job holds: its declared core calls, its reports, its questions, and jobs of its own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.calls import Core, Scene
from core.errors import UndeclaredCall
from jobs import processes
from jobs.asks import Form
from jobs.authority import Authority
from jobs.clock import elsewhere
from jobs.model import NamedBy, Request
from jobs.processes import Finished
from store import Tx, note_outside

if TYPE_CHECKING:
    from jobs.run import Run

T = TypeVar("T")
_NOTHING: Any = object()


class JobContext:
    """The capability a job is given, in its user's name. It ends with the job: later calls are refused.

    It stands for the temporary credential of sessions.md 2.13: nothing that outlives the job is ever made.
    """

    __slots__ = ("_run", "_undeclared")

    def __init__(self, run: "Run") -> None:
        self._run: Run | None = run
        self._undeclared: UndeclaredCall | None = None

    @property
    def id(self) -> str:
        """The job's id; the same in every attempt."""
        return self._live.id

    @property
    def user_id(self) -> str:
        """In whose name it runs."""
        return self._live.request.owner_id

    @property
    def session_id(self) -> str | None:
        """The session it works for, if any."""
        return self._live.request.session_id

    @property
    def attempt(self) -> int:
        """1 the first time; more after a retry or a crash."""
        return self._live.attempt

    @property
    def is_cancelling(self) -> bool:
        """True when somebody asked the job, or one around it, gently, to come to an end."""
        return self._live.is_asked_to_end

    @property
    def authority(self) -> Authority:
        """By whose credentials it runs now."""
        return self._live.authority

    @contextmanager
    def under(self, authority: Authority) -> Iterator[None]:
        """Do what is inside the block by these credentials: the job's own, and whoever else brought it."""
        run = self._live
        before, run.authority = run.authority, authority
        try:
            yield
        finally:
            run.authority = before

    @property
    def is_withdrawn(self) -> bool:
        """Tell whether it is being stopped because a credential by which it runs has ended."""
        return self._live.withdrawn is not None

    async def read(self, fn: Callable[[Core], T]) -> T:
        """Run `fn(core)` over one snapshot of what is committed."""
        run = self._live
        return await run.engine.store.read(lambda tx: fn(self.core(tx)))

    async def write(self, fn: Callable[[Core], T], *, is_record: bool = False) -> T:
        """Run `fn(core)` in a transaction of its own, stored at once; what belongs to the end goes into a Commit.

        Args:
            is_record: it only records what was asked and answered, which is no effect of the job.
        """
        run = self._live
        if run.spec.lane == "memory":
            raise RuntimeError(f"job {run.spec.name!r} is in the memory lane, which only reads")
        run.authority.require()
        return await run.engine.store.write(lambda tx: self.checked(fn(self.core(tx))), is_record=is_record)

    async def run(
        self, function: str, data: dict[str, Any], *, secrets: tuple[str, ...] = (), named_by: NamedBy = ""
    ) -> Any:
        """Run another job function for the same user, inside this job's slot and time, and return its result.

        Args:
            secrets: texts in the data that no row, log line, event or error of that job may hold.
            named_by: who chose the function; empty: whoever brings this job's function.
        """
        return await self._live.run_child(function, data, secrets, named_by)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the job is: `done` of `total`, or just `done` where the end is not known.

        What goes backwards is passed over; at most ten reports a second are told, the newest wins.
        """
        self._live.voice().report(done, total, message)

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self._live.voice().log(text)

    @property
    def asked(self) -> int:
        """How many questions it has put: a job run again after a crash finds its answers by their numbers."""
        return self._live.asked

    def skip_asks(self, number: int) -> None:
        """Take the questions up to `number` as put by what the job has done before and does not do again."""
        self._live.asked = number

    async def ask(
        self,
        text: str,
        *,
        schema: dict[str, Any] | None = None,
        choices: tuple[Any, ...] | None = None,
        default: Any = _NOTHING,
        is_secret: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask a person and return the answer; the job leaves its slot to others meanwhile.

        When the session is not interactive, or time runs out, the answer is `default`; without one AskDeclined is
        raised. See `jobs.asks.Form` for the rest.
        """
        has_default = default is not _NOTHING
        form = Form(schema, choices, default if has_default else None, has_default, is_secret, timeout_s)
        return await self._live.ask(text, form)

    async def post(
        self,
        function: str,
        data: dict[str, Any],
        text: str,
        form: Form,
        user_id: str,
        also: Callable[[Core, str, str], None],
    ) -> tuple[str, str]:
        """Put a question to another person, with a job of its own to wait for the answer; return both their ids.

        Args:
            function, data: the job, of the long lane, which calls `posted`; it is this job's user's.
            also: `also(core, job_id, ask_id)` runs in the transaction that stores both.
        """
        engine, request = self._live.engine, self._live.request
        row = engine.build(function, data, Request(request.owner_id, self._live.authority, request.session_id))

        def put(tx: Tx) -> tuple[str, str]:
            job_id = engine.dispatcher.add(tx, row)
            ask_id = engine.asks.put(tx, text, form, job_id, user_id)
            also(self.core(tx), job_id, ask_id)
            return job_id, ask_id

        return await engine.store.write(put)

    async def posted(self) -> Any:
        """Wait for the answer to the question this job was posted with. Raises AskDeclined."""
        return await self._live.posted()

    async def in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """Run what blocks, `fn(*args)`, in one of the server's threads for jobs. Raises PoolBusy, PoolLate."""
        async with self.waiting():
            return await self._live.engine.threads.run(fn, *args)

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """Let others have the job's slot inside the block, in which it only waits; its time goes on."""
        return elsewhere(self._live.timer)

    async def sleep(self, seconds: float) -> None:
        """Wait for a while; the job leaves its slot to others meanwhile."""
        async with self.waiting():
            await self._live.engine.store.clock.sleep(seconds)

    async def process(self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command, its lines going to the job's log; it ends with the job, and with the server."""
        run = self._live
        note_outside()
        return await processes.run(arguments, cwd=cwd, env=env, on_line=run.voice().log)

    def core(self, tx: Tx) -> Core:
        """Return the job's declared core calls in this transaction."""
        run = self._live
        scene = Scene(tx, run.request.owner_id, run.engine.hear, run.engine.quota)
        return Core(scene, run.spec.name, run.spec.calls, self._stop)

    def checked(self, outcome: T) -> T:
        """Return the job's outcome. Raises UndeclaredCall if it made such a call, also when it caught the error."""
        if self._undeclared is not None:
            raise self._undeclared
        return outcome

    def end(self) -> None:
        """Take the capability away: the runner does so when the job is over."""
        self._run = None

    def _stop(self, error: UndeclaredCall) -> None:
        self._undeclared = self._undeclared or error

    @property
    def _live(self) -> "Run":
        if self._run is None:
            raise RuntimeError("this job is over and can make no more calls")
        return self._run
