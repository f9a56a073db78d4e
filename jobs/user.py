"""The job that makes a user; the edge writes their first credential in the transaction that ends it."""

from pydantic import BaseModel, ConfigDict

from core import users
from core.users import User
from jobs.context import JobContext
from jobs.model import Commit, job

OPERATOR = "operator"  # in whose name the command line works; no user has this id


class CreateUser(BaseModel):
    """Input of create_user."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    name: str


@job("create_user", CreateUser, calls=["core.user.create"], is_internal=True)
async def create_user(job: JobContext, data: CreateUser) -> Commit[User]:
    """Make a user with his token, group and home."""
    return Commit(lambda core: core(users.create, data.name))


JOBS = (create_user,)
