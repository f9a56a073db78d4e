"""How much each user keeps, of what there is a limit: shown by `server.info`, and refused with QUOTA_EXCEEDED."""

from core import quota
from jobs import rows, schedules
from rpcserver.auth import credentials
from rpcserver.playbooks import rows as playbooks
from rpcserver.services import Services
from rpcserver.sessions import contexts
from rpcserver.sessions import rows as sessions
from store import Tx

Used = dict[str, dict[str, int]]


async def of_user(services: Services, user_id: str) -> Used:
    """Return what a user keeps and the most that may be kept, by the name of the setting."""
    settings = services.settings

    def read(tx: Tx) -> dict[str, int]:
        kept = quota.used(tx, user_id)
        return {
            "max_tokens_per_user": kept.tokens,
            "max_token_bytes_per_user": kept.token_bytes,
            "max_playbook_bytes_per_user": playbooks.bytes_of(tx, user_id),
            "max_jobs_kept_per_user": rows.kept(tx, user_id, settings.max_jobs_kept_per_user),
            "max_sessions_per_user": sessions.count(tx, user_id),
            "max_contexts_per_user": contexts.count(tx, user_id),
            "max_schedules_per_user": schedules.count(tx, user_id),
            "max_credentials_per_user": credentials.count(tx, user_id),
        }

    used = await services.store.read(read)
    used["max_store_keys_per_user"], used["max_store_bytes_per_user"] = await services.stores.kept(user_id)
    used["max_subscriptions_per_user"] = services.events.count(user_id)
    return {name: {"used": count, "most": getattr(settings, name)} for name, count in sorted(used.items())}
