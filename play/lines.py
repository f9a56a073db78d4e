"""Lines: from a text as given to one that is simple to read, and from an offset back to a line and column."""

import re
from collections.abc import Iterable

from play.errors import Mistake, ParseError

_LINE_END = re.compile(r"\r\n?")
_LEADING_TAB = re.compile(r"^[ \t]*\t[ \t]*", re.MULTILINE)
_AT_COLUMN_0 = re.compile(r"^[^\s]", re.MULTILINE)
_INDENT = re.compile(r"^[ ]*+(?=[^ \n])", re.MULTILINE)


def normalised(text: str) -> str:
    r"""Give the text with `\n` as the only line end, no byte order mark, and blanks for tabs in front of lines."""
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    if "\t" in text:
        text = _LEADING_TAB.sub(lambda tabs: tabs[0].replace("\t", "    "), text)
    return text


def dedented(text: str) -> str:
    """Remove the indentation that all lines share. Source: heroscript specification, section 1.3."""
    if _AT_COLUMN_0.search(text):
        return text
    depth = min((found.end() - found.start() for found in _INDENT.finditer(text)), default=0)
    return re.sub(rf"^ {{{depth}}}", "", text, flags=re.MULTILINE) if depth else text


def located(found: Iterable[tuple[int, str, str]], read: str, given: str, file: str, first_line: int = 1) -> ParseError:
    """Turn offsets in the text that was read into lines and columns of the text that was given.

    The two differ only at the start of each line, so a column is counted from the end of its line.
    """
    lines = _LINE_END.sub("\n", given.removeprefix("\ufeff")).split("\n")
    mistakes = []
    line, counted, end = 0, 0, -1
    for at, message, piece in sorted(found):
        line += read.count("\n", counted, at)
        counted = at
        if at > end:
            end = read.find("\n", at) % (len(read) + 1)  # -1, no line end, becomes the end of the text
        column = len(lines[line]) - (end - at) + 1
        mistakes.append(Mistake(file, line + first_line, max(column, 1), message, piece))
    return ParseError(mistakes)
