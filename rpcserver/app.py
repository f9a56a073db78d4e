"""The composition root: opens store, jobs, bus, methods and sockets in order, and closes them in reverse."""

import asyncio
import gc
import math
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog

from core import access, presence, rules, users
from core.calls import Scene
from core.errors import UserNotFound
from core.quota import Quota
from core.users import User
from jobs.authority import SERVER
from jobs.engine import JobRunner
from jobs.errors import FORESEEN
from jobs.functions import attributes, core, import_tree, import_world
from jobs.functions import session as session_jobs
from jobs.model import JobSpec, Limits, Request
from jobs.progress import OnProgress
from jobs.remotes.client import RemoteLimits, Remotes, RemoteSecret
from jobs.remotes.http import Hosts
from jobs.remotes.sources import Outside
from jobs.runner import EmbeddedRunner
from jobs.scripts.engine import MontyEngine, ScriptLimits, script_threads
from jobs.webhooks import Callbacks
from plugins import loader, manager
from plugins.builtin.jwt_users import NAME as JWT_USERS
from plugins.builtin.jwt_users import JwtUsers
from plugins.manager import Bus, Notices
from rpcserver import backup, extras, instance
from rpcserver.auth import authenticator, credentials, tickets
from rpcserver.auth.credentials import Credentials, Terms
from rpcserver.auth.ended import forget_ended
from rpcserver.auth.entrance import Entrance
from rpcserver.auth.withdrawal import Withdrawal
from rpcserver.cli import start_checks
from rpcserver.events.log import Events, Kept
from rpcserver.events.publish import announce, hear
from rpcserver.methods import METHODS
from rpcserver.methods.credential import terms_of
from rpcserver.methods.plugin import with_guests
from rpcserver.openrpc.document import Description
from rpcserver.playbooks.adding import Adding
from rpcserver.playbooks.keyvalue import Stores
from rpcserver.playbooks.player import Player
from rpcserver.playbooks.sources import Sources
from rpcserver.rpc import errors
from rpcserver.rpc.dispatcher import Dispatcher
from rpcserver.rpc.idempotency import Answers
from rpcserver.rpc.pagination import Cursors
from rpcserver.rpc.refusals import CredentialLimit
from rpcserver.schemas.access import TermsParams
from rpcserver.sessions import rows as sessions
from rpcserver.sessions import views
from rpcserver.sessions.ends import Ends
from rpcserver.sessions.navigation import Pallets
from rpcserver.sessions.questions import Asking
from rpcserver.sessions.rows import Session, Sessions
from rpcserver.settings import Settings
from rpcserver.telemetry.metrics import Metrics
from rpcserver.telemetry.watchdog import Watchdog
from rpcserver.transport.server import Server
from store import STEP_MS, Clock, Places, Pool, Pools, Store, StoreError, Tx, ids

SCANS = 4


def job_limits(settings: Settings) -> Limits:
    """Return how much of everything jobs may have."""
    return Limits(
        slots=settings.job_slots,
        per_user=settings.job_slots_per_user,
        max_waiting_per_user=settings.max_waiting_jobs_per_user,
        max_schedules_per_user=settings.max_schedules_per_user,
        max_result_bytes=settings.max_job_result_bytes,
        max_lines=settings.max_job_lines,
        gentle_s=settings.job_gentle_s,
        stuck_s=settings.job_stuck_s,
        max_kept_per_user=settings.max_jobs_kept_per_user,
        max_crashes=settings.max_job_crashes,
        max_attempts=settings.max_job_attempts,
        keep_succeeded_s=settings.keep_succeeded_jobs_s,
        keep_others_s=settings.keep_other_jobs_s,
    )


def make_pools(settings: Settings) -> Pools:
    """Return the threads and places for each kind of slow work."""
    timeout_s, stuck_s = settings.pool_timeout_s, settings.pool_stuck_s

    def pool(name: str, threads: int, timeout_s: float | None, stuck_s: float = stuck_s) -> Pool:
        waiting = settings.max_waiting_in_pool_per_user
        return Pool(name, threads, timeout_s=timeout_s, waiting_per_owner=waiting, stuck_s=stuck_s)

    return Pools(
        stores=pool("stores", settings.store_threads, timeout_s),
        # What a fetch may take is counted by its job, its bytes, and from byte to byte; another host's silence, as long
        # as it may last, says nothing about this server.
        git=pool("git", settings.git_threads, None, settings.fetch_timeout_s + stuck_s),
        jobs=pool("jobs", settings.job_threads, None),
        playbooks=Places(
            "playbooks",
            settings.playbook_readers,
            per_owner=1,
            wait_s=None,
            stuck_s=settings.max_playbook_read_s + stuck_s,
        ),
        # Of one user's only one goes on in a turn of the loop; the others wait as long as their calls may.
        scans=Places("scans", SCANS, per_owner=1, waiting_per_owner=10_000, wait_s=None, stuck_s=stuck_s),
        scripts=script_threads(script_limits(settings)),
        names=pool("names", settings.name_threads, timeout_s, timeout_s + stuck_s),
        answers=pool("answers", settings.answer_threads, timeout_s),
        # A large folder takes as long as it takes: that it is not done says nothing.
        backup=Pool("backup", 1, timeout_s=None, stuck_s=math.inf),
    )


def outside(settings: Settings, store: Store, events: Events, pools: Pools) -> Outside:
    """Return the door to scripts, remotes and people; who is asked, and who has his answer, hears of it by events."""

    async def asked(user_id: str, question: dict[str, Any]) -> None:
        await store.write(lambda tx: events.append(tx, "remote.asked", f"user:{user_id}", question))

    async def resolved(user_id: str, notice: dict[str, Any]) -> None:
        await store.write(lambda tx: events.append(tx, "remote.answered", f"user:{user_id}", notice))

    scripts = MontyEngine(script_limits(settings), pools.scripts)
    remotes = Remotes(_remotes(settings), store.clock, names=pools.names, answers=pools.answers)
    return Outside(scripts, remotes, store.clock, asked, resolved)


def script_limits(settings: Settings) -> ScriptLimits:
    """Return what one run of a script may use."""
    return ScriptLimits(
        settings.script_timeout_s,
        settings.script_memory_bytes,
        settings.script_depth,
        settings.script_calls,
        settings.script_output_bytes,
        settings.script_processes,
        settings.script_waiting_per_user,
    )


def _remotes(settings: Settings) -> RemoteLimits:
    secrets = {
        name: RemoteSecret(secret.text.get_secret_value(), secret.hosts, secret.users)
        for name, secret in settings.remote_secrets.items()
    }
    return RemoteLimits(
        settings.remote_hosts,
        settings.remote_networks,
        secrets,
        str(settings.remote_ca_file) if settings.remote_ca_file else None,
        settings.remote_read_timeout_s,
        settings.remote_write_timeout_s,
        settings.remote_answer_bytes,
        settings.remote_sent_bytes,
        settings.remote_calls_per_user,
    )


log = structlog.get_logger("app")
LOAN_MS = 7 * 24 * 3600 * 1000
CLOCK_CHECK_S = 1.0


class App:
    """Everything a running server consists of; each part is made once, here, and passed on."""

    job_functions: dict[str, orjson.Fragment] | None = None  # what jobs.functions answers, once it was asked for

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bus: Bus,
        known: instance.Identity,
        tasks: asyncio.TaskGroup,
        pools: Pools,
    ) -> None:
        self.settings = settings
        self.pools = pools
        self.started = time.monotonic()
        self.metrics = Metrics()
        self.store = store
        self.clock = store.clock
        self.bus = bus
        self.notices = Notices(bus, settings.max_waiting_notices)
        self.cursors = Cursors(known.cursor_key)
        kept = Kept(settings.max_events, settings.max_event_age_s)
        self.events = Events(store, kept, presence.users_in, sessions.places, access.readable_among, tasks.create_task)
        self.sessions = Sessions(store)
        self.credentials = Credentials(store, settings.max_logged_calls)
        self.answers = Answers(store, settings.idempotency_age_s, settings.max_keys_per_user)
        self.entrance = Entrance(store, bus, self.credentials, self._make_user, settings.max_failed_logins_per_minute)
        self.pallets = Pallets({}, self.clock.now_ms())
        self.making_default = asyncio.Lock()
        self.outside = outside(settings, store, self.events, pools)
        self.sorting: set[str] = set()  # sessions whose commands' places are being found out
        self.has_asking_rules = False  # whether any rule of a place asks a script or remote
        self.spawn = tasks.create_task
        specs = job_specs(bus, self.outside)
        callbacks = Callbacks(
            store, self.outside.remotes.post, self.secret, partial(views.job_record, clock=self.clock), self.credentials
        )
        self.runner: JobRunner = EmbeddedRunner(
            store,
            specs,
            partial(announce, self),
            errors.describe_for_job,
            job_limits(settings),
            callbacks,
            partial(hear, self),
            self.credentials,
            pools.jobs,
            Quota(settings.max_tokens_per_user, settings.max_token_bytes_per_user),
        )
        self.sources = Sources(settings, self.runner, pools.playbooks)
        self.stores = Stores(
            settings.data / "stores",
            _secret(settings),
            pools.stores,
            settings.max_store_keys_per_user,
            settings.max_store_bytes_per_user,
        )
        self.adding = Adding(self)
        self.player = Player(self)
        self.runner.register(self.player.spec())
        self.dispatcher = Dispatcher(self, with_guests(METHODS, bus), tasks.create_task)
        self.description = Description(self.dispatcher.methods.values(), pools.answers)
        self.operator_secret = authenticator.Secret("rpcop_" + secrets.token_urlsafe(32))
        self.server = Server(self)
        self.asking = Asking(self.runner.asks, self.credentials, self.server.attached, tasks.create_task, self.clock)
        self.withdrawal = Withdrawal(self)
        self.ends = Ends(self)

    async def add_user(self, name: str) -> authenticator.Secret:
        """Make a user and return a credential for him. Raises BadName or NameTaken."""

        def credential(tx: Tx, user: User) -> authenticator.Secret:
            return credentials.issue(tx, user.id, Terms("first credential"))[1]

        made: authenticator.Secret = await self.runner.run(
            "create_user", {"name": name}, Request(core.OPERATOR, SERVER), then=credential
        )
        return made

    async def secret(self, name: str, url: str, user_id: str) -> str:
        """Return the operator's secret of a name, for an address and a user. Raises RemoteUnavailable."""
        user = await self.store.read(lambda tx: users.find(tx, user_id))
        return self.outside.remotes.secret(name, url, user.name if user else "")

    async def back_up(self, file: Path) -> int:
        """Back the data folder up into a new file while it is used, and return its size in bytes."""
        return await self.pools.backup.run(backup.write, self.store.folder, file)

    async def lend(self, user_name: str | None) -> authenticator.Secret:
        """Return a credential of a user, by default of the first there is, for the command line; `give_back` ends it.

        Raises UserNotFound. A folder without users gets an owner.
        """

        def lend(tx: Tx) -> authenticator.Secret | None:
            row = tx.one("SELECT name FROM users ORDER BY id LIMIT 1") if user_name is None else (user_name,)
            user = users.find_by_name(tx, row[0]) if row else None
            if user is None and user_name is not None:
                raise UserNotFound(user_name)
            return (
                None
                if user is None
                else authenticator.issue(
                    tx, user.id, "command line", expires_at=tx.clock.now_ms() + LOAN_MS, is_lent=True
                )
            )

        lent = await self.store.write(lend)
        if lent is None:
            await self.give_back(str(await self.add_user("owner")))  # nobody was shown it
            lent = await self.store.write(lend)
        assert lent is not None  # the owner was made
        return lent

    async def give_back(self, credential: str) -> bool:
        """End a credential that was lent."""
        credential_id = await self.store.read(lambda tx: authenticator.find_id(tx, credential))
        if credential_id is None:
            return False
        await self.revoke(credential_id, None)
        self.server.close_ended()
        return True

    async def revoke(self, credential_id: str, user_id: str | None) -> None:
        """Revoke a credential in the user's name (None: in anybody's), with those a narrow one has made.

        From the moment it is stored nothing is done by it, nor by what it brought; its owner is told. Raises
        CredentialNotFound.
        """

        def revoke(tx: Tx) -> set[str]:
            ended = credentials.revoke(tx, credential_id, user_id)
            for grant in ended:
                self.withdrawal.end(tx, grant, "revoked")
            return {grant.user_id for grant in ended}

        await self.withdrawal.settle(await self.store.write(revoke))
        while await self.store.write(lambda tx: credentials.forget(tx, authenticator.REVOKED)):
            pass

    def froze(self, tx: Tx, user: User) -> None:
        """Have nothing done in a user's name, or let it go on, once the transaction is committed."""
        tx.after_commit(partial(self.withdrawal.freeze, user.id, bool(user.is_frozen)))

    async def defer_user(self, name: str, approver_name: str | None) -> None:
        """Have a user's long jobs wait for the approval of another; None: let them all go.

        Raises UserNotFound or BadApprover.
        """
        user = await self.user_named(name)
        approver = None if approver_name is None else await self.user_named(approver_name)
        await self.runner.defer(user.id, None if approver is None else approver.id)

    async def freeze_user(self, name: str, is_frozen: bool) -> None:
        """Freeze a user, or let him move again, where no server runs. Raises UserNotFound."""
        data = {"name": name, "is_frozen": is_frozen}
        await self.runner.run("core.user.freeze", data, Request(core.OPERATOR, SERVER))

    async def all_users(self) -> dict[str, Any]:
        """Return every user on one page."""
        found, _ = await self.store.read(lambda tx: users.list_(Scene(tx, core.OPERATOR), limit=2**31))
        return {"items": [asdict(user) for user in found], "next_cursor": None}

    async def user_named(self, name: str) -> User:
        """Return the user of that name. Raises UserNotFound."""
        user = await self.store.read(lambda tx: users.find_by_name(tx, name))
        if user is None:
            raise UserNotFound(name)
        return user

    async def terms(self, params: TermsParams) -> Terms:
        """Return the terms of a credential to be made. Raises UserNotFound for an unknown holder."""
        return terms_of(params, None if params.holder is None else (await self.user_named(params.holder)).id)

    async def issue(self, user_id: str, terms: Terms, limit: int | None = None) -> dict[str, Any]:
        """Make a credential and return its id and its text, which is shown this once.

        Raises CredentialLimit when there are as many in the user's name as the limit says.
        """

        def issue(tx: Tx) -> tuple[str, authenticator.Secret]:
            if limit is not None and credentials.count(tx, user_id) >= limit:
                raise CredentialLimit(limit)
            return credentials.issue(tx, user_id, terms)

        credential_id, text = await self.store.write(issue)
        return {"credential_id": credential_id, "credential": str(text)}

    async def import_tree(
        self,
        path: Path,
        user_name: str,
        into: str | None,
        is_public: bool,
        on_progress: OnProgress,
        exclude: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Import a folder for a user, below `into` or his home, and return what came of it.

        Args:
            exclude: names of files and folders to leave out, wherever they stand.
        """
        user = await self.user_named(user_name)
        imported = await self.runner.run(
            "import_tree",
            {"path": path, "into": into, "is_public": is_public, "exclude": exclude},
            Request(user.id, SERVER),
            on_progress=on_progress,
        )
        return asdict(imported)

    async def upkeep(self) -> None:
        """Forget, every now and then, what is too old to be asked for."""

        while True:
            try:
                await self.events.upkeep()
                while await self.store.write(self.answers.upkeep):
                    pass
                await self.store.write(instance.keep_clock)
                while await self.store.write(self._forget_ended):
                    pass  # some at a time, so that other writes come in between
            except StoreError as error:
                log.warning("upkeep_failed", reason=str(error))
            await self.clock.sleep(min(self.settings.upkeep_s, self.events.upkeep_s))

    def _forget_ended(self, tx: Tx) -> bool:
        old = self.clock.now_ms() - int(self.settings.keep_expired_credentials_s * 1000)
        is_more = credentials.forget(tx, old if self.clock.is_settled else authenticator.REVOKED)
        is_more = forget_ended(tx) or is_more
        return tickets.forget(tx) or is_more

    async def sweep(self) -> None:
        """Remove what a killed server left of key-value stores, once."""
        try:
            await self.stores.sweep(lambda ids: self.store.read(partial(sessions.among, session_ids=ids)))
        except StoreError as error:
            log.warning("stores_not_swept", reason=str(error))

    async def watch_clock(self, ahead_ms: int) -> None:
        """Notice, until cancelled, when the wall clock is set: it is told, and kept for the start after a kill.

        Args:
            ahead_ms: how far ahead it was at the start.
        """
        while True:
            await asyncio.sleep(CLOCK_CHECK_S)
            step_ms = self.clock.ahead_ms - ahead_ms
            if abs(step_ms) < STEP_MS:
                continue
            ahead_ms += step_ms
            log.warning("clock_was_set", by_s=round(step_ms / 1000, 1))
            await self.keep_clock()
            try:
                # So finds itself a machine that goes on from a snapshot: what it gave since is not in its memory.
                await self.events.begin_run()
            except StoreError as error:
                log.warning("epoch_not_begun", reason=str(error))

    async def keep_clock(self) -> None:
        """Keep what the clocks say: the next server goes on from there."""
        try:
            await self.store.write(instance.keep_clock)
        except StoreError as error:
            log.warning("clock_not_kept", reason=str(error))

    async def _make_user(self, name: str) -> User:
        made: User = await self.runner.run("create_user", {"name": name}, Request(core.OPERATOR, SERVER))
        return made

    async def import_world(self, path: Path, user_name: str, into: str | None) -> dict[str, Any]:
        """Make a world of a world file for a user, below `into` or his home. Raises BadWorld; then nothing was made."""
        user = await self.user_named(user_name)
        made = await self.runner.run("import_world", {"path": path, "into": into}, Request(user.id, SERVER))
        return asdict(made)

    def ask_rules(self) -> None:
        """Have scripts and remotes of rules asked before every move, from now on."""
        self.has_asking_rules = True


def fetch_hosts(settings: Settings, threads: Pool | None) -> Hosts:
    """Return from which hosts playbooks and repositories may be fetched."""
    return Hosts(
        settings.fetch_hosts,
        settings.fetch_private_hosts,
        settings.fetch_ca_file,
        settings.fetch_timeout_s,
        settings.max_fetch_bytes,
        settings.max_checkout_bytes,
        threads or Pool("git", 1),
    )


def _secret(settings: Settings) -> authenticator.Secret | None:
    secret = settings.stores_secret
    return None if secret is None else authenticator.Secret(secret.get_secret_value())


def job_specs(bus: Bus, outside: Outside | None) -> list[JobSpec]:
    """Return every job function: ours, then the guests'; without `outside` only to be shown."""
    own = (
        *session_jobs.JOBS,
        *import_tree.JOBS,
        *import_world.JOBS,
        *core.JOBS,
        *attributes.jobs(outside),
    )
    return [*own, *manager.jobs(bus, {spec.name for spec in own})]


@asynccontextmanager
async def opened(settings: Settings, *, is_server: bool = False, clock: Clock | None = None) -> AsyncIterator[App]:
    """Open the data folder with everything but the sockets, and close it in good order.

    Only a server (`is_server`) takes up the jobs, schedules and callbacks that wait there. `clock` is what all of it
    tells the time by.

    Raises MissingExtra, StoreError or BadPlugin when that cannot be; each says what to do.
    """
    pools = make_pools(settings)
    bus = load_plugins(settings, pools.git)
    store = await Store.open(
        settings.data,
        synchronous=settings.synchronous,
        readers=settings.readers,
        max_batch=settings.max_write_batch,
        clock=clock or Clock(),
    )
    try:
        known = await store.write(instance.load)
        now, steady, newest_id = known.clock
        store.clock.go_on(now, steady)
        ids.go_on(newest_id)
        async with asyncio.TaskGroup() as tasks:
            app = App(settings, store, bus, known, tasks, pools)
            await app.stores.settle()
            await app.events.load()
            if is_server:
                await app.events.begin_run()
            await app.answers.load()
            app.has_asking_rules = await store.read(rules.any_asks)
            was_killed = is_server and not await store.write(instance.was_stopped)
            await app.runner.start(is_server=is_server, was_killed=was_killed)
            telling = tasks.create_task(app.notices.run())
            try:
                await _recover(app)
                yield app
            finally:
                telling.cancel()
                await app.runner.stop()
                if is_server:
                    await _note_stop(store)
                await app.outside.close()
                await pools.close()
                await app.keep_clock()
    except BaseExceptionGroup as group:
        # The group is ours, not the caller's: he gets what was raised.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        await store.close()


async def _note_stop(store: Store) -> None:
    try:
        await store.write(instance.note_stop)
    except StoreError as error:
        log.warning("stop_not_noted", reason=str(error))  # the next start takes it for a kill


@asynccontextmanager
async def running(
    settings: Settings, listening: socket.socket | None = None, *, clock: Clock | None = None
) -> AsyncIterator[App]:
    """Run a server: it accepts connections inside the block, on the settings' address or a socket that listens.

    Raises UnsafeStart before anything is opened.
    """
    start_checks.check(settings)
    async with opened(settings, is_server=True, clock=clock) as app:
        keeping = (app.upkeep(), app.watch_clock(app.clock.ahead_ms), app.withdrawal.run(), app.ends.run(), app.sweep())
        housekeeping = [app.spawn(work) for work in keeping]
        try:
            async with _listening(app, listening):
                yield app
        finally:
            for task in housekeeping:
                task.cancel()


@asynccontextmanager
async def _listening(app: App, listening: socket.socket | None) -> AsyncIterator[None]:
    await app.server.start(listening)
    app.metrics.watch_loop()
    watchdog = Watchdog(app.settings.blocked_loop_s)
    watchdog.start()
    # What start-up made lives as long as the server: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        await app.server.stop()
        app.metrics.stop()
        watchdog.stop()


async def _recover(app: App) -> None:
    for session in await app.store.read(sessions.half_made):
        log.warning("session_mended", session_id=session.id, state=session.state)
        await app.adding.clear(session.id)
        if session.state == "destroying":
            data = session_jobs.DestroySession(
                session_id=session.id, data_set_id=session.data_set_id, pallet_set_id=session.pallet_set_id
            )
            await app.runner.run("session.destroy_session", data, Request(session.core_user_id, SERVER))
        await app.store.write(partial(_drop, app, session))


def load_plugins(settings: Settings, git_threads: Pool | None = None) -> Bus:
    """Return the bus with every plugin, each with its settings read. Raises BadPlugin, naming it, or MissingExtra.

    Args:
        git_threads: those that wait for other hosts; None: where nothing is fetched.
    """
    extras.check(settings)
    foreseen = (*FORESEEN, errors.RpcError)
    bus = Bus(settings.filter_timeout_s, settings.action_timeout_s, foreseen)
    loader.load(bus, settings.plugins, fetch_hosts(settings, git_threads))
    if settings.jwt_keys is not None:
        bus.register(_jwt_users(settings, settings.jwt_keys), JWT_USERS)
    manager.settings(bus, settings.plugin)
    return bus


def _jwt_users(settings: Settings, keys: Path) -> JwtUsers:
    return JwtUsers(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        user_claim=settings.jwt_user_claim,
        may_make_users=settings.jwt_makes_users,
    )


def _drop(app: App, session: Session, tx: Tx) -> None:
    sessions.remove(tx, session.id)
    if session.state == "destroying":  # nobody ever heard of one that was still being made
        app.events.append(tx, "session.destroyed", f"user:{session.core_user_id}", {"session_id": session.id})
