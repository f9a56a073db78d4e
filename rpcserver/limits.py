"""What the settings say about jobs and threads, as those who run them take it."""

import math

from jobs.limits import Limits
from jobs.scripting import script_threads
from rpcserver.outside import script_limits
from rpcserver.settings import Settings
from store import Places, Pool, Pools

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


def pools(settings: Settings) -> Pools:
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
