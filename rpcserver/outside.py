"""What the settings say about scripts and remotes, as their runners take it."""

from jobs.outside import OnAsked, Outside
from jobs.remoting import RemoteLimits, Remotes, RemoteSecret
from jobs.scripting import MontyEngine, ScriptLimits
from rpcserver.settings import Settings


def outside(settings: Settings, on_asked: OnAsked) -> Outside:
    """Return the door to scripts, remotes and people."""
    return Outside(MontyEngine(_scripts(settings)), Remotes(_remotes(settings)), on_asked)


def _scripts(settings: Settings) -> ScriptLimits:
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
        settings.remote_calls_per_user,
    )
