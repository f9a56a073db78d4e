"""What the settings say about scripts and remotes, as their runners take it."""

from typing import Any

from jobs.outside import Outside
from jobs.remoting import RemoteLimits, Remotes, RemoteSecret
from jobs.scripting import MontyEngine, ScriptLimits
from rpcserver.events import Events
from rpcserver.settings import Settings
from store import Pools, Store


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
