"""Jobs about users: the operator adds them, and they make and destroy credentials of their own.

Credentials are the edge's: it writes them in the transaction that ends the job, so that no secret is in a job's row.
"""

from pydantic import BaseModel, ConfigDict

from core import users
from core.users import User
from jobs.context import JobContext
from jobs.model import Commit, job

OPERATOR = "operator"  # in whose name the command line works; no user has this id


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CreateUser(_Data):
    """Input of create_user."""

    name: str


class CreateBearer(_Data):
    """Input of core.user.auth.create; what is written on the credential stays out of the job's row, as it does."""

    seconds: float | None = None


class Bearer(_Data):
    """Input of the calls about the credential used, which the edge knows."""


@job("create_user", CreateUser, calls=["core.user.create"], is_internal=True)
async def create_user(job: JobContext, data: CreateUser) -> Commit[User]:
    """Make a user with his token, group and home."""
    return Commit(lambda core: core(users.create, data.name))


@job("core.user.auth.create", CreateBearer, calls=["core.user.read"], is_internal=True)
async def create_bearer(job: JobContext, data: CreateBearer) -> Commit[str]:
    """Make another credential for the caller; the edge issues it as the job ends."""
    return Commit(lambda core: core(users.read).id)


@job("core.user.auth.pass_through", Bearer, calls=["core.user.read"], is_internal=True, lane="memory")
async def read_bearer(job: JobContext, data: Bearer) -> str:
    """Look the caller up whose credential's note the edge reads."""
    return await job.read(lambda core: core(users.read).id)


@job("core.user.auth.destroy", Bearer, calls=["core.user.read"], is_internal=True)
async def destroy_bearer(job: JobContext, data: Bearer) -> Commit[str]:
    """Delete the credential used; the edge does so as the job ends."""
    return Commit(lambda core: core(users.read).id)


JOBS = (create_user, create_bearer, read_bearer, destroy_bearer)
