"""Runs what the command line asks for, and turns what a person can mend into one line."""

import sys
from typing import Any, NoReturn


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
    from rpcserver import logs
    from rpcserver.extras import MissingExtra
    from rpcserver.settings import Settings
    from rpcserver.start_checks import UnsafeStart
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
    from rpcserver.logs import escaped

    print(f"rpcserver: {escaped(message)}", file=sys.stderr)
    sys.exit(1)
