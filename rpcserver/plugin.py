"""What authors of plugins import, all of it: the hooks, what they are handed and return, and jobs of their own.

A plugin is a module (or object) whose functions, marked `@hookimpl`, are named as in `plugins.hooks`. It never sees a
socket or a row.
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
