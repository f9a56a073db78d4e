"""The composition root: makes each part of a server once, opens them in order, and closes them in reverse."""

import asyncio
import gc
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from core import access, presence, rules, users
from core.quota import Quota
from core.told import TOLD
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
from rpcserver import extras, instance
from rpcserver.auth import authenticator, credentials, tickets
from rpcserver.auth.credentials import Credentials
from rpcserver.auth.ended import forget_ended
from rpcserver.auth.entrance import Entrance
from rpcserver.auth.withdrawal import Withdrawal
from rpcserver.errors import RpcError
from rpcserver.events.log import Events, Kept
from rpcserver.events.publish import Publisher
from rpcserver.methods import METHODS
from rpcserver.methods.plugin import with_plugins
from rpcserver.openrpc.document import Description
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks.adding import Adding
from rpcserver.playbooks.keyvalue import Stores
from rpcserver.playbooks.player import Player
from rpcserver.playbooks.rows import Scanner
from rpcserver.playbooks.sources import Sources
from rpcserver.rpc import errors
from rpcserver.rpc.calls import method_in
from rpcserver.rpc.dispatcher import Dispatcher
from rpcserver.rpc.idempotency import Answers
from rpcserver.rpc.pagination import Cursors
from rpcserver.rpc.registry import ConnectionRegistry
from rpcserver.rpc.scheduler import Scheduler
from rpcserver.services import Call, Services
from rpcserver.sessions import rows as sessions
from rpcserver.sessions import views
from rpcserver.sessions.ends import Ends
from rpcserver.sessions.navigation import Navigation
from rpcserver.sessions.pallet import Pallets
from rpcserver.sessions.questions import Asking
from rpcserver.sessions.rows import Session, Sessions
from rpcserver.settings import Settings
from rpcserver.telemetry.metrics import Metrics
from rpcserver.telemetry.watchdog import Watchdog
from rpcserver.transport import start_checks
from rpcserver.transport.server import Server
from store import STEP_MS, Clock, Places, Pool, Pools, Store, StoreError, Tx, ids

log = structlog.get_logger("app")
CLOCK_CHECK_S = 1.0
Spawn = Callable[[Any], asyncio.Task[None]]
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


@dataclass(frozen=True, slots=True)
class App:
    """A data folder that is open, and the sockets of a server on it."""

    services: Services
    server: Server

    async def operate(self, method: str, *, on_progress: OnProgress | None = None, **params: Any) -> Any:
        """Call a method as the operator. Raises RpcError with what the answer would have been."""
        return await self.services.dispatcher.call(None, method, params, on_progress)


def build(
    settings: Settings, store: Store, bus: Bus, notices: Notices, cursors: Cursors, spawn: Spawn, pools: Pools
) -> Services:
    """Make what the rooms share."""
    metrics, scheduler, connections = Metrics(), Scheduler(), ConnectionRegistry(settings)
    kept = Kept(settings.max_events, settings.max_event_age_s)
    events = Events(store, kept, presence.users_in, sessions.places, access.readable_among, spawn)
    known_sessions, keeper = Sessions(store), Credentials(store, settings.max_logged_calls)
    outside = _outside(settings, store, events, pools)
    publisher = Publisher(events, notices, metrics, lambda event: asking.told(event))
    runner = _runner(settings, store, bus, outside, publisher, keeper, pools)
    asking = Asking(runner.asks, keeper, connections.attached, spawn, store.clock)
    dispatcher = Dispatcher(
        with_plugins(METHODS, bus),
        settings=settings,
        metrics=metrics,
        scheduler=scheduler,
        runner=runner,
        credentials=keeper,
        answers=Answers(store, settings.idempotency_age_s, settings.max_keys_per_user),
        default_session=known_sessions.default_of,
        spawn=spawn,
    )
    player = _player(
        settings, store, pools, dispatcher, events=events, bus=bus, sessions=known_sessions, credentials=keeper
    )
    runner.register(player.spec())
    services = Services(
        settings=settings,
        store=store,
        pools=pools,
        metrics=metrics,
        spawn=spawn,
        scheduler=scheduler,
        connections=connections,
        dispatcher=dispatcher,
        cursors=cursors,
        credentials=keeper,
        entrance=Entrance(store, bus, keeper, partial(_make_user, runner), settings.max_failed_logins_per_minute),
        withdrawal=Withdrawal(
            store,
            runner,
            keeper,
            append=events.append,
            close_ended=connections.close_ended,
            check_s=settings.expiry_check_s,
        ),
        runner=runner,
        outside=outside,
        bus=bus,
        events=events,
        publisher=publisher,
        sessions=known_sessions,
        asking=asking,
        navigation=Navigation(
            settings,
            store,
            runner=runner,
            bus=bus,
            notices=notices,
            events=events,
            publisher=publisher,
            sessions=known_sessions,
            asking=asking,
            pallets=Pallets(store, runner, events, spawn),
            spawn=spawn,
        ),
        ends=Ends(store, dispatcher),
        sources=Sources(settings, runner, pools.playbooks),
        stores=player.stores,
        scanner=player.scanner,
        player=player,
        adding=Adding(settings, store, events, player),
        description=Description(dispatcher.methods.values(), pools.answers, runner),
    )
    dispatcher.make_call = partial(Call, services)
    return services


def _outside(settings: Settings, store: Store, events: Events, pools: Pools) -> Outside:
    """Return the door to scripts, remotes and people; whoever is asked, or has an answer, hears of it by events."""

    async def asked(user_id: str, question: dict[str, Any]) -> None:
        await store.write(lambda tx: events.append(tx, "remote.asked", f"user:{user_id}", question))

    async def resolved(user_id: str, notice: dict[str, Any]) -> None:
        await store.write(lambda tx: events.append(tx, "remote.answered", f"user:{user_id}", notice))

    scripts = MontyEngine(script_limits(settings), pools.scripts)
    remotes = Remotes(_remotes(settings), store.clock, names=pools.names, answers=pools.answers)
    return Outside(scripts, remotes, store.clock, asked, resolved)


def _runner(
    settings: Settings,
    store: Store,
    bus: Bus,
    outside: Outside,
    publisher: Publisher,
    keeper: Credentials,
    pools: Pools,
) -> EmbeddedRunner:
    async def secret(name: str, url: str, user_id: str) -> str:
        user = await store.read(lambda tx: users.find(tx, user_id))
        return outside.remotes.secret(name, url, user.name if user else "")

    show = partial(views.job_record, clock=store.clock)
    return EmbeddedRunner(
        store,
        job_specs(bus, outside),
        publisher.announce,
        errors.describe_for_job,
        job_limits(settings),
        Callbacks(store, outside.remotes.post, secret, show, keeper),
        publisher.hear,
        keeper,
        pools.jobs,
        Quota(settings.max_tokens_per_user, settings.max_token_bytes_per_user),
    )


async def _make_user(runner: JobRunner, name: str) -> User:
    made: User = await runner.run("create_user", {"name": name}, Request(core.OPERATOR, SERVER))
    return made


def _player(
    settings: Settings,
    store: Store,
    pools: Pools,
    dispatcher: Dispatcher,
    *,
    events: Events,
    bus: Bus,
    sessions: Sessions,
    credentials: Credentials,
) -> Player:
    return Player(
        settings,
        store,
        bus=bus,
        events=events,
        sessions=sessions,
        credentials=credentials,
        dispatcher=dispatcher,
        scanner=Scanner(store, pools.scans),
        stores=Stores(
            settings.data / "stores",
            _secret(settings),
            pools.stores,
            settings.max_store_keys_per_user,
            settings.max_store_bytes_per_user,
        ),
    )


async def _upkeep(services: Services) -> None:
    """Forget, every now and then, what is too old to be asked for."""
    events, store = services.events, services.store
    while True:
        try:
            await events.upkeep()
            while await store.write(services.dispatcher.answers.upkeep):
                pass
            await store.write(instance.keep_clock)
            while await store.write(partial(forget_credentials, services.settings)):
                pass  # some at a time, so that other writes come in between
        except StoreError as error:
            log.warning("upkeep_failed", reason=str(error))
        await services.clock.sleep(min(services.settings.upkeep_s, events.upkeep_s))


def forget_credentials(settings: Settings, tx: Tx) -> bool:
    """Forget some credentials and tickets that are long over; tell whether there may be more."""
    old = tx.clock.now_ms() - int(settings.keep_expired_credentials_s * 1000)
    is_more = credentials.forget(tx, old if tx.clock.is_settled else authenticator.REVOKED)
    is_more = forget_ended(tx) or is_more
    return tickets.forget(tx) or is_more


async def sweep(services: Services) -> None:
    """Remove what a killed server left of key-value stores, once."""
    try:
        await services.stores.sweep(lambda ids: services.store.read(partial(sessions.among, session_ids=ids)))
    except StoreError as error:
        log.warning("stores_not_swept", reason=str(error))


async def _watch_clock(services: Services, ahead_ms: int) -> None:
    """Notice, until cancelled, when the wall clock is set: it is told, and kept for the start after a kill.

    Args:
        ahead_ms: how far ahead it was at the start.
    """
    while True:
        await asyncio.sleep(CLOCK_CHECK_S)
        step_ms = services.clock.ahead_ms - ahead_ms
        if abs(step_ms) < STEP_MS:
            continue
        ahead_ms += step_ms
        log.warning("clock_was_set", by_s=round(step_ms / 1000, 1))
        await _keep_clock(services.store)
        try:
            # So finds itself a machine that goes on from a snapshot: what it gave since is not in its memory.
            await services.events.begin_run()
        except StoreError as error:
            log.warning("epoch_not_begun", reason=str(error))


async def _keep_clock(store: Store) -> None:
    """Keep what the clocks say: the next server goes on from there."""
    try:
        await store.write(instance.keep_clock)
    except StoreError as error:
        log.warning("clock_not_kept", reason=str(error))


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
    """Return every job function: ours, then the plugins'; without `outside` only to be shown."""
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
        told=TOLD,
    )
    try:
        known = await store.write(instance.load)
        now, steady, newest_id = known.clock
        store.clock.go_on(now, steady)
        ids.go_on(newest_id)
        async with asyncio.TaskGroup() as tasks:
            notices = Notices(bus, settings.max_waiting_notices)
            services = build(settings, store, bus, notices, Cursors(known.cursor_key), tasks.create_task, pools)
            await services.stores.settle()
            await services.events.load()
            if is_server:
                await services.events.begin_run()
            await services.dispatcher.answers.load()
            if await store.read(rules.any_asks):
                services.publisher.ask_rules()
            was_killed = is_server and not await store.write(instance.was_stopped)
            await services.runner.start(is_server=is_server, was_killed=was_killed)
            telling = tasks.create_task(notices.run())
            try:
                await _recover(services)
                yield App(services, Server(services))
            finally:
                telling.cancel()
                await services.runner.stop()
                if is_server:
                    await _note_stop(store)
                await services.outside.close()
                await pools.close()
                await _keep_clock(store)
    except BaseExceptionGroup as group:
        # The group is ours, not the caller's: they get what was raised.
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
        services = app.services
        keeping = (
            _upkeep(services),
            _watch_clock(services, services.clock.ahead_ms),
            services.withdrawal.run(),
            services.ends.run(),
            sweep(services),
        )
        housekeeping = [services.spawn(work) for work in keeping]
        try:
            async with _listening(app, listening):
                yield app
        finally:
            for task in housekeeping:
                task.cancel()


@asynccontextmanager
async def _listening(app: App, listening: socket.socket | None) -> AsyncIterator[None]:
    metrics = app.services.metrics
    await app.server.start(listening)
    metrics.watch_loop()
    watchdog = Watchdog(app.services.settings.blocked_loop_s, method_in)
    watchdog.start()
    # What start-up made lives as long as the server: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        await app.server.stop()
        metrics.stop()
        watchdog.stop()


async def _recover(services: Services) -> None:
    """Bring to their end the sessions that a killed server left half made."""
    store = services.store
    for session in await store.read(sessions.half_made):
        log.warning("session_mended", session_id=session.id, state=session.state)
        await services.adding.clear(session.id)
        if session.state == "destroying":
            data = session_jobs.DestroySession(
                session_id=session.id, data_set_id=session.data_set_id, pallet_set_id=session.pallet_set_id
            )
            await services.runner.run("session.destroy_session", data, Request(session.core_user_id, SERVER))
        await store.write(partial(_drop, services.events, session))


def load_plugins(settings: Settings, git_threads: Pool | None = None) -> Bus:
    """Return the bus with every plugin, each with its settings read. Raises BadPlugin, naming it, or MissingExtra.

    Args:
        git_threads: those that wait for other hosts; None: where nothing is fetched.
    """
    extras.check(settings)
    foreseen = (*FORESEEN, RpcError)
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


def _drop(events: Events, session: Session, tx: Tx) -> None:
    playbooks.forget(tx, session.id)
    sessions.remove(tx, session.id)
    if session.state == "destroying":  # nobody ever heard of one that was still being made
        events.append(tx, "session.destroyed", f"user:{session.core_user_id}", {"session_id": session.id})
