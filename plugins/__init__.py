"""Guests and the bus that carries filters to them. A guest never sees the socket or a row.

A guest is a module (or object) whose functions, marked `@hookimpl`, are named as in `plugins.hooks`.
"""

from jobs import Commit, JobContext, JobError, JobSpec, job
from plugins.hooks import (
    Action,
    Command,
    Exit,
    Identity,
    Move,
    Pallet,
    Passage,
    Place,
    Play,
    SessionView,
    hookimpl,
    plays,
)

__all__ = [
    "Action",
    "Command",
    "Commit",
    "Exit",
    "Identity",
    "JobContext",
    "JobError",
    "JobSpec",
    "Move",
    "Pallet",
    "Passage",
    "Place",
    "Play",
    "SessionView",
    "hookimpl",
    "job",
    "plays",
]
