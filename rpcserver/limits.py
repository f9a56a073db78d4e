"""What the settings say about jobs, as their runner takes it."""

from jobs.limits import Limits
from rpcserver.settings import Settings


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
        max_attempts=settings.max_job_attempts,
        keep_succeeded_s=settings.keep_succeeded_jobs_s,
        keep_others_s=settings.keep_other_jobs_s,
    )
