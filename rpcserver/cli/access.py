"""`rpcserver credential ...`, `rpcserver ticket` and `rpcserver maintenance`."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def guarded(run: Any, flags: dict[str, Any], *arguments: Any) -> Any:
    """Run with the settings; what a person can mend is one line on standard error and exit status 1."""
    import logging
    import os
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from core.errors import CoreError, UserNotFound
    from jobs.errors import JobsError
    from plugins.errors import PluginsError
    from rpcserver.extras import MissingExtra
    from rpcserver.settings import Settings
    from rpcserver.telemetry import logs
    from rpcserver.transport.start_checks import UnsafeStart
    from store import StoreError, named

    os.umask(0o077)  # whatever is made in a data folder is its owner's alone
    try:
        settings = Settings.load(**flags)
        # Else log lines would stand among what the command prints.
        logs.configure(logging.DEBUG if settings.is_log_debug else logging.INFO, settings.max_equal_log_lines)
        return run(settings, *arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        stop_with(f"setting {name}: {told}. Correct the flag, the environment or rpcserver.toml.")
    except (TOMLDecodeError, SettingsError) as error:
        stop_with(f"the settings cannot be read: {error}. Correct the environment or rpcserver.toml.")
    except UserNotFound as error:
        stop_with(f"There is no user {error.id!r} in this data folder: make one with `rpcserver user add`.")
    except (StoreError, CoreError, JobsError, PluginsError, MissingExtra, UnsafeStart, OSError) as error:
        stop_with(str(named(error)))


def stop_with(message: str) -> NoReturn:
    """Say what is wrong in one line and end with status 1."""
    from rpcserver.telemetry.logs import escaped

    print(f"rpcserver: {escaped(message)}", file=sys.stderr)
    sys.exit(1)


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
    from rpcserver.cli.admin import create_credential

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

    from rpcserver.cli.admin import list_credentials

    for credential in guarded(list_credentials, {"data": data}, user):
        print(json.dumps(credential, ensure_ascii=False))


@credential_app.command("revoke")
def revoke(
    credential_id: Annotated[str, typer.Argument(help="As `rpcserver credential list` tells it.")], data: Data = None
) -> None:
    """Revoke a credential; its connections close, and only those."""
    from rpcserver.cli.admin import revoke_credential

    guarded(revoke_credential, {"data": data}, credential_id)


def ticket(user: Annotated[str, typer.Argument(help="Whose page it opens.")], data: Data = None) -> None:
    """Print a one-shot ticket for a page of a running server, good for half a minute."""
    from rpcserver.cli.admin import ask_running

    print(guarded(ask_running, {"data": data}, "operator.ticket", {"user": user})["ticket"])


def maintenance(
    on: Annotated[bool, typer.Option("--on/--off", help="Refuse calls, or take them again.")],
    data: Data = None,
    message: Annotated[str | None, typer.Option(help="What callers are told.")] = None,
    retry_after_s: Annotated[float | None, typer.Option(help="When they are told to try again.")] = None,
) -> None:
    """Have a running server refuse every call but the operator's, or take calls again."""
    from rpcserver.cli.admin import ask_running

    given = {"on": on, "message": message, "retry_after_s": retry_after_s}
    params = {name: value for name, value in given.items() if value is not None}
    guarded(ask_running, {"data": data}, "server.maintenance", params)
