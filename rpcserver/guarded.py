"""Runs what the command line asks for, and turns what a person can mend into one line."""

import sys
from typing import Any, NoReturn


def guarded(run: Any, flags: dict[str, Any], *arguments: Any) -> Any:
    """Run with the settings; what a person can mend is one line on standard error and exit status 1."""
    from pydantic import ValidationError

    from core.errors import CoreError
    from jobs.errors import JobsError
    from plugins.errors import PluginsError
    from rpcserver.settings import Settings
    from rpcserver.start_checks import UnsafeStart
    from store import StoreError

    try:
        return run(Settings.load(**flags), *arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        stop_with(f"setting {name}: {first['msg']}. Correct the flag, the environment or rpcserver.toml.")
    except (StoreError, CoreError, JobsError, PluginsError, UnsafeStart, OSError) as error:
        stop_with(str(error))


def stop_with(message: str) -> NoReturn:
    """Say what is wrong in one line and end with status 1."""
    print(f"rpcserver: {message}", file=sys.stderr)
    sys.exit(1)
