"""`rpcserver credential ...`, `rpcserver ticket` and `rpcserver maintenance`."""

from pathlib import Path
from typing import Annotated

import typer

from rpcserver.guarded import guarded

credential_app = typer.Typer(help="Credentials of users and of their agents.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="Data folder. [env: RPCSERVER_DATA]")]


@credential_app.command("create")
def create(
    user: Annotated[str, typer.Argument(help="In whose name it acts.")],
    data: Data = None,
    label: Annotated[str, typer.Option(help="What it is for; shown in lists and logs.")] = "command line",
    scope: Annotated[
        list[str] | None, typer.Option(help="Methods it may call, as `session.*`; may be given several times.")
    ] = None,
    expires_in_s: Annotated[float | None, typer.Option(help="Seconds it lasts. [default: until revoked]")] = None,
    renewable: Annotated[bool, typer.Option("--renewable", help="auth.refresh begins its life anew.")] = False,
    max_calls: Annotated[int | None, typer.Option(help="Calls it is good for in all.")] = None,
    calls_per_interval: Annotated[int | None, typer.Option(help="Calls in each interval.")] = None,
    interval_s: Annotated[int | None, typer.Option(help="Seconds of an interval.")] = None,
    holder: Annotated[str | None, typer.Option(metavar="USER", help="The user who holds it, as an agent does.")] = None,
    logged: Annotated[bool, typer.Option("--logged", help="Log its calls; limited ones always are.")] = False,
) -> None:
    """Make a credential and print it, alone on one line. It is shown this once."""
    from rpcserver.operate import create_credential

    params = {
        "user": user,
        "label": label,
        "scopes": scope or ["*"],
        "expires_in_s": expires_in_s,
        "renewable": renewable,
        "max_calls": max_calls,
        "calls_per_interval": calls_per_interval,
        "interval_s": interval_s,
        "holder": holder,
        "logged": logged,
    }
    print(guarded(create_credential, {"data": data}, params))


@credential_app.command("list")
def list_(
    user: Annotated[str | None, typer.Argument(help="Whose. [default: everybody's]")] = None, data: Data = None
) -> None:
    """Print the credentials, one JSON object a line; never their text, which is kept nowhere."""
    import json

    from rpcserver.operate import list_credentials

    for credential in guarded(list_credentials, {"data": data}, user):
        print(json.dumps(credential, ensure_ascii=False))


@credential_app.command("revoke")
def revoke(
    credential_id: Annotated[str, typer.Argument(help="As `rpcserver credential list` tells it.")], data: Data = None
) -> None:
    """Revoke a credential; its connections close, and only those."""
    from rpcserver.operate import revoke_credential

    guarded(revoke_credential, {"data": data}, credential_id)


def ticket(user: Annotated[str, typer.Argument(help="Whose page it opens.")], data: Data = None) -> None:
    """Print a one-shot ticket for a page of a running server, good for half a minute."""
    from rpcserver.operate import ask_running

    print(guarded(ask_running, {"data": data}, "operator.ticket", {"user": user})["ticket"])


def maintenance(
    on: Annotated[bool, typer.Option("--on/--off", help="Refuse calls, or take them again.")],
    data: Data = None,
    message: Annotated[str | None, typer.Option(help="What callers are told.")] = None,
    retry_after_s: Annotated[float | None, typer.Option(help="When they are told to try again.")] = None,
) -> None:
    """Have a running server refuse every call but the operator's, or take calls again."""
    from rpcserver.operate import ask_running

    given = {"on": on, "message": message, "retry_after_s": retry_after_s}
    params = {name: value for name, value in given.items() if value is not None}
    guarded(ask_running, {"data": data}, "server.maintenance", params)
