"""Work. A job is one async function over the core with typed input and output and declared core calls."""

from jobs.errors import JobError
from jobs.model import Commit, JobContext, JobSpec, job

__all__ = ["Commit", "JobContext", "JobError", "JobSpec", "job"]
