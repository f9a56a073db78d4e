"""What comes of asking: the same for a value, a script, a remote and a person."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    `state`: `ok`; `cached`, of `as_of` (UTC milliseconds); `pending`, until a write is answered (by a person: see
    `activity_id`, and `job_id`, the job that waits for him); `unknown`, nobody has answered yet; `off`.
    """

    value: Any
    state: str = "ok"
    activity_id: str | None = None
    job_id: str | None = None
    as_of: int | None = None
