"""How names are made comparable: actors, actions, keys of parameters and of stores."""

from functools import lru_cache

_KEPT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REPLACED = frozenset("-;:. ")


@lru_cache(maxsize=4096)
def name_fix(text: str) -> str:
    """Turn any text into a name of `a-z0-9_`, keeping the extension behind the last dot.

    Cuts at the first `#`; `- ; : .` and blanks become `_`; whatever else is not ASCII alphanumeric is dropped.
    Source: heroscript specification, section 7.
    """
    name = _ascii_lower(text.strip()).split("#", 1)[0]
    # An extension belongs to the last part of a path, and there is text on both sides of its dot.
    stem, _, extension = name.rpartition(".")
    if not extension or "/" in extension or stem[-1:] in ("", "/") or len(name.encode("utf-8", "surrogatepass")) < 3:
        return _underscored(name)
    return f"{_underscored(stem)}.{extension}"


def name_fix_no_underscore(text: str) -> str:
    """Give the fixed name with every `_` dropped. Source: heroscript specification, section 7."""
    return name_fix(text).replace("_", "")


def name_fix_no_ext(text: str) -> str:
    """Give the fixed name without its extension and the `_` in front of it. Source: as above."""
    stem, dot, whole = name_fix(text).rpartition(".")
    return (stem if dot else whole).rstrip("_")


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(ch.lower() if ch.isascii() else ch for ch in text)


def _underscored(stem: str) -> str:
    out: list[str] = []
    before = ""
    for char in stem:
        if char in _KEPT:
            out.append(char)
        elif char == "_" or char in _REPLACED:
            if before != "_":  # a `_` swallows the blank or mark behind it, and another `_`
                out.append("_")
        else:
            continue
        before = char
    return "".join(out)
