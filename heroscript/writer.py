"""Writing heroscript so that reading it gives the same again. Source: heroscript.md 5.4.

Deliberately not the reference's layout, which loses short multi-line values, the case of arguments and comments: keys
keep their order, a value with a line break is a block wherever one can hold it, comments have lines of their own.
"""

import re
from collections.abc import Iterable, Sequence

_WIDTH = 100
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.+%@=-][A-Za-z0-9_.+%@=/:-]*")
_PLAIN_ARG = re.compile(r"(?!//|,)[A-Za-z0-9_.,/]+")
_NOT_IN_BLOCK = re.compile(r"^(?:[ \t\f\v]*(?:'''|\"\"\"|'|\")[ \t\f\v]*|[ \f\v]*\t.*|[ \t\f\v]+)$", re.MULTILINE)


def params_text(items: Iterable[tuple[str, str, str]], args: Sequence[str], arg_comments: Sequence[str]) -> str:
    """Write parameters that stand alone: on one line when they fit, else one a line."""
    head, lines = _pieces(items, args, arg_comments, "")
    short = _one_line(head, lines)
    return short if short is not None else "\n".join(filter(None, [" ".join(head), *lines]))


def action_text(
    head: str, comments: str, items: Iterable[tuple[str, str, str]], args: Sequence[str], arg_comments: Sequence[str]
) -> str:
    """Write one action: its comments, its `head` with all that fits, and the rest one item a line."""
    first, lines = _pieces(items, args, arg_comments, "    ")
    first.insert(0, head)
    short = _one_line(first, lines)
    text = short if short is not None else "\n".join([" ".join(first), *lines])
    return _comment(comments, "") + text + "\n" if comments else text + "\n"


def _one_line(head: list[str], lines: list[str]) -> str | None:
    """Join everything into one line when it is short and has neither comments nor blocks."""
    # A key that begins with a comma would go on as a list behind another value.
    if sum(map(len, lines)) > _WIDTH or any("\n" in line or line.lstrip()[0] == "," for line in lines):
        return None
    text = " ".join([*head, *map(str.lstrip, lines)])
    return text if len(text) <= _WIDTH else None


def _pieces(
    items: Iterable[tuple[str, str, str]], args: Sequence[str], arg_comments: Sequence[str], indent: str
) -> tuple[list[str], list[str]]:
    """Give what may stand on the first line, and the lines below it."""
    words = [_arg(arg) for arg in args]
    lines: list[str] = []
    if arg_comments and words:
        # A comment belongs to the argument behind it. Saying an argument twice adds nothing, so it can carry a second.
        places = words + [words[-1]] * (len(arg_comments) - len(words))
        for number, word in enumerate(places):
            comment = arg_comments[number] if number < len(arg_comments) else ""
            lines.append(_comment(comment, indent) + indent + word)
        words = []
    for key, value, comment in items:
        lines.append(_comment(comment, indent) + indent + key + ":" + _value(value, indent))
    return words, lines


def _comment(comment: str, indent: str) -> str:
    return "".join(f"{indent}// {line}".rstrip(" ") + "\n" for line in comment.split("\n")) if comment else ""


def _arg(arg: str) -> str:
    return arg if _PLAIN_ARG.fullmatch(arg) else _quoted(arg)


def _value(value: str, indent: str) -> str:
    if _PLAIN_VALUE.fullmatch(value):
        return value
    if "\n" not in value or _NOT_IN_BLOCK.search(value):
        return _quoted(value)
    escaped = value.replace("\\'", "\\\\'").replace("\n", f"\n{indent}    ")
    lines = "\n".join(line.rstrip(" ") if not line.strip(" ") else line for line in escaped.split("\n"))
    return f"'\n{indent}    {lines}\n{indent}    '"


def _quoted(value: str) -> str:
    body = value.replace("'", "\\'").replace("\n", "\\\\n")
    # A blank keeps a last backslash from escaping the quote; reading trims it.
    return f"'{body} '" if body.endswith("\\") else f"'{body}'"
