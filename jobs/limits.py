"""How much of everything jobs may have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything.

    Args:
        slots: jobs of the long lane at once; per_user: of one user.
        max_waiting_per_user: jobs one user may have that wait, for a slot or for something else.
        max_schedules_per_user: schedules he may have.
        max_result_bytes: of a result as JSON. max_lines: of log kept for a job.
        gentle_s: what a job asked gently to end may take before it is stopped.
        stuck_s: how long a job that is stopped may go on without the log naming it.
        max_crashes: how often the server may be killed while a job runs, before that is lost.
        max_kept_per_user: records of ended jobs; of more the oldest are forgotten.
        max_attempts: how often a job may be started, its retries not counted, when the disk fails under it.
        keep_succeeded_s, keep_others_s: how long rows of ended jobs are kept.
    """

    slots: int = 16
    per_user: int = 8
    max_waiting_per_user: int = 10_000
    max_schedules_per_user: int = 1000
    max_result_bytes: int = 1024 * 1024
    max_lines: int = 1000
    max_line_characters: int = 2000
    gentle_s: float = 5.0
    stuck_s: float = 5.0
    max_crashes: int = 2
    max_attempts: int = 20
    max_kept_per_user: int = 200_000
    keep_succeeded_s: float = 24 * 3600.0
    keep_others_s: float = 7 * 24 * 3600.0
    prune_every_s: float = 3600.0
