"""Regular expressions over what comes from outside, in linear time: the engine is RE2, part of the extra `remotes`.

Python's own engine backtracks, so that a pattern of a few signs can take hours; a server of many must not run it over
text of strangers. RE2 has no look-around and no back references. Without the extra no remote is called anyway, and a
pattern is only checked for its spelling.
"""

import re
from typing import Any

from core.errors import BadRemote

MAX_PATTERN_CHARACTERS = 200
# Time is text times program: with 256 KiB of text and this many steps the worst pattern takes below a second.
MAX_PROGRAM_STEPS = 500


def check_pattern(pattern: str) -> None:
    """Raise BadRemote for a pattern that is not one, or that is too large."""
    if not pattern or len(pattern) > MAX_PATTERN_CHARACTERS:
        raise BadRemote(f"a regular expression has from 1 to {MAX_PATTERN_CHARACTERS} characters")
    try:
        steps = compile_pattern(pattern).programsize
    except ImportError:
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadRemote(f"{pattern!r} is not a regular expression: {error}") from error
        return
    if steps > MAX_PROGRAM_STEPS:
        raise BadRemote(f"{pattern!r} is too large: repeat less often, or classes of fewer characters")


def compile_pattern(pattern: str) -> Any:
    """Return the pattern for RE2. Raises ImportError without the extra, BadRemote for what RE2 does not know."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise BadRemote(f"{pattern!r} is not a regular expression of RE2's: {text}") from error
