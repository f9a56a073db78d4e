"""Guests and the bus that carries filters to them. A guest never sees the socket or a row.

A guest is a module (or object) whose functions, marked `@hookimpl`, are named as in `plugins.hooks`.
"""

from jobs import Commit, JobContext, JobError, JobSpec, job
from plugins.hooks import (
    Action,
    Command,
    Exit,
    FinishedJob,
    GuestMethod,
    Identity,
    MethodCall,
    Move,
    Pallet,
    Passage,
    Place,
    Play,
    ReadSettings,
    SessionView,
    hookimpl,
    method,
    plays,
)

__all__ = [
    "Action",
    "Command",
    "Commit",
    "Exit",
    "FinishedJob",
    "GuestMethod",
    "Identity",
    "JobContext",
    "JobError",
    "JobSpec",
    "MethodCall",
    "Move",
    "Pallet",
    "Passage",
    "Place",
    "Play",
    "ReadSettings",
    "SessionView",
    "hookimpl",
    "job",
    "method",
    "plays",
]
