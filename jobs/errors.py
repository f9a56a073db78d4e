"""What can go wrong with a job.

JobsError
├── UnknownFunction  no job function of that name
├── BadJobData       the data does not fit the function's schema
├── JobNotFound      no such job, or not the caller's
├── JobTimeout       the job ran longer than it may
├── JobFailed        the job raised something unforeseen; `ref` stands in the log
└── JobError         raised by a job on purpose: its text is meant for the caller
"""

from typing import Any


class JobsError(Exception):
    """The job could not be done."""


class UnknownFunction(JobsError):
    """There is no job function of that name."""

    def __init__(self, function: str) -> None:
        self.function = function
        super().__init__(f"There is no job function {function!r}.")


class BadJobData(JobsError):
    """The data does not fit the function's schema."""

    def __init__(self, function: str, errors: list[dict[str, Any]]) -> None:
        self.function = function
        self.errors = errors
        super().__init__(f"The data does not fit the job function {function!r}.")


class JobNotFound(JobsError):
    """There is no such job, or it is not yours."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"No job {job_id!r} of yours.")


class JobTimeout(JobsError):
    """The job ran longer than it may, and was stopped; nothing it had not finished was stored."""

    def __init__(self, job_id: str, function: str, timeout_s: float) -> None:
        self.job_id, self.function, self.timeout_s = job_id, function, timeout_s
        super().__init__(f"The job {function!r} was stopped after {timeout_s:g} s.")


class JobFailed(JobsError):
    """The job failed; `ref` stands in the server's log."""

    def __init__(self, job_id: str, function: str, ref: str) -> None:
        self.job_id, self.function, self.ref = job_id, function, ref
        super().__init__(f"The job {function!r} failed. The server's log says why, under {ref}.")


class JobError(JobsError):
    """A failure that a job reports in words meant for the caller."""
