"""Names people give to things, and how listings sort them."""

import re
import unicodedata

from core.errors import BadName

MAX_NAME_CHARACTERS = 1000
USER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{1,63}")


def sort_key(name: str) -> str:
    """Return the name as listings order it: without regard to case, and the same for every spelling in Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


def checked_name(name: str) -> str:
    """Return the name of a token or set, refusing what no row or terminal can hold."""
    if not name.strip():
        raise BadName(name, "it is empty")
    if len(name) > MAX_NAME_CHARACTERS:
        raise BadName(name, f"it is longer than {MAX_NAME_CHARACTERS} characters")
    if "\x00" in name:
        raise BadName(name, "it holds a NUL character")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise BadName(name, "it is not valid Unicode") from None
    return name


def checked_user_name(name: str) -> str:
    """Return a user name: 2 to 64 of a-z, 0-9, `_`, `.`, `-`, beginning with a letter or digit."""
    if not USER_NAME.fullmatch(name):
        raise BadName(name, "a user name is 2 to 64 characters of a-z, 0-9, _ . - and begins with a letter or digit")
    return name
