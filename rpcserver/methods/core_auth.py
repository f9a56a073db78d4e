"""core.user.auth.*: credentials a user makes for himself, each call a job; the credential is written as it ends."""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from rpcserver import bearers, examples, kinds
from rpcserver.dispatch import Call, method
from rpcserver.models import NoParams, Params
from rpcserver.results import NewCredential


class CreateBearerParams(Params):
    """core.user.auth.create."""

    pass_through: Any = None
    seconds: Annotated[float | None, Field(ge=0.001, le=10 * 365 * 24 * 3600)] = None


@method(
    "core.user.auth.create",
    CreateBearerParams,
    has_secret=True,
    result=NewCredential,
    errors=(*kinds.JOB, "SCOPE_TOO_WIDE"),
    examples=examples.AUTH_CREATE,
)
async def create(call: Call, params: CreateBearerParams) -> dict[str, Any]:
    """Make another credential for the caller, which reaches as far as the one used and ends no later."""
    maker = call.principal
    bearers.check_maker(maker)
    expires_at = None if params.seconds is None else call.app.clock.now_ms() + int(params.seconds * 1000)
    text, expires_at = await call.app.runner.run(
        "core.user.auth.create",
        {"seconds": params.seconds},
        call.job_request(),
        then=lambda tx, _: bearers.make(tx, maker, params.pass_through, expires_at),
    )
    return {"credential": str(text), "expires_at": expires_at}


@method(
    "core.user.auth.pass_through",
    NoParams,
    is_change=False,
    result=JsonValue,
    errors=kinds.JOB,
    examples=examples.AUTH_PASS_THROUGH,
)
async def pass_through(call: Call, params: NoParams) -> Any:
    """Return what was written on the credential used."""
    await call.app.runner.run("core.user.auth.pass_through", {}, call.job_request())
    return await call.app.store.read(lambda tx: bearers.note(tx, call.principal))


@method(
    "core.user.auth.destroy",
    NoParams,
    result=bool,
    errors=(*kinds.JOB, "LAST_CREDENTIAL"),
    examples=examples.AUTH_DESTROY,
)
async def destroy(call: Call, params: NoParams) -> bool:
    """Delete the credential used; its connections close. Refuses to delete the caller's last one."""
    used, app = call.principal, call.app
    await app.runner.run("core.user.auth.destroy", {}, call.job_request(), then=lambda tx, _: bearers.destroy(tx, used))
    app.credentials.ended(used.grant.id, "revoked")
    call.after_reply(app.server.close_ended)
    return True


METHODS = (create, pass_through, destroy)
