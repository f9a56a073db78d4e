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
    stem, dot, extension = name.rpartition(".")
    if not stem or len(name) < 3:
        stem, dot, extension = name, "", ""
    return _underscored(stem) + dot + extension


def name_fix_no_underscore(text: str) -> str:
    """Give the fixed name with every `_` dropped. Source: heroscript specification, section 7."""
    return name_fix(text).replace("_", "")


def name_fix_no_ext(text: str) -> str:
    """Give the fixed name without its extension. Source: heroscript specification, section 7."""
    stem, _, extension = name_fix(text).rpartition(".")
    return stem if _ else extension


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(ch.lower() if ch.isascii() else ch for ch in text)


def _underscored(stem: str) -> str:
    out: list[str] = []
    after_underscore = False
    for ch in stem:
        if ch in _KEPT:
            out.append(ch)
            after_underscore = False
        elif ch == "_":
            if not (out and out[-1] == "_"):
                out.append("_")
            after_underscore = True
        elif ch in _REPLACED and not after_underscore:
            out.append("_")
    return "".join(out)
