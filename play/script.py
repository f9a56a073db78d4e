"""A whole text of heroscript: finds the actions between prose, comments and code fences.

Source: heroscript specification, sections 1 to 3. A quoted sentence stands over the line that obeys it.
"""

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from play.action import DEFAULT_PRIORITY, Action, ActionType
from play.errors import Mistake, ParseError
from play.items import BLANKS, ItemReader, comment_text
from play.lines import dedented, located, normalised
from play.names import name_fix
from play.params import Params

# "An action is only recognised when `!` is the first non-blank character of a line"; `![` is a picture.
_START = re.compile(r"^(?:[ \f\v]*+(!(?!\[)!*+)([^ \t\f\v\n]*+)|//([^\n]*+))", re.MULTILINE)


@dataclass(slots=True)
class Script:
    """What a text holds: its actions, and the comments that belong to none of them."""

    actions: list[Action] = field(default_factory=list)
    othertext: str = ""


def parse(text: str, *, file: str = "", first_id: int = 1, priority: int = DEFAULT_PRIORITY) -> Script:
    """Read a text of heroscript, which may be a markdown document with actions in it.

    Args:
        file: the name that errors and actions carry.
        first_id: the id of the first action.
        priority: stored on every action; it orders nothing.

    Raises:
        ParseError: with every mistake in the text, by line and column.
    """
    script, mistakes = examine(text, file=file, first_id=first_id, priority=priority)
    if mistakes:
        raise ParseError(mistakes)
    return script


def examine(
    text: str,
    *,
    file: str = "",
    first_id: int = 1,
    priority: int = DEFAULT_PRIORITY,
    max_actions: int | None = None,
) -> tuple[Script, tuple[Mistake, ...]]:
    """Read a text as `parse` does, and return what it made of it together with every mistake.

    Args:
        max_actions: reading ends behind one more than these.
    """
    read = dedented(normalised(text))
    reader = _ScriptReader(read, file, first_id, priority)
    with _collector_paused():
        script = reader.read(sys.maxsize if max_actions is None else max_actions)
    found = reader.items.mistakes
    return script, located(found, read, text, file).mistakes if found else ()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector away: reading makes many objects and no cycles; its scans cost a third of the time.

    Two threads that read at once may end the pause early, never late.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _ScriptReader:
    """Walks from one start of an action or comment to the next."""

    __slots__ = ("_file", "_first_id", "_headers", "_priority", "_script", "_text", "items")

    def __init__(self, text: str, file: str, first_id: int, priority: int) -> None:
        self._text, self._file, self._first_id, self._priority = text, file, first_id, priority
        self._script = Script()
        self._headers: dict[str, tuple[str, str]] = {}
        self.items = ItemReader(text)

    def read(self, max_actions: int) -> Script:
        text, search, actions = self._text, _START.search, self._script.actions
        comments: list[str] = []
        pos, line, counted = 0, 1, 0
        while len(actions) <= max_actions and (start := search(text, pos)):
            if comments and text[pos : start.start()].strip(BLANKS):
                self._other(comments)
            bangs, header, comment = start.groups()
            if bangs is None:
                comments.append(comment_text("//" + comment))
                pos = start.end()
                continue
            at = start.start()
            line += text.count("\n", counted, at)
            counted = at
            names = self._headers.get(header) or self._names(header, start.start(2))
            if len(bangs) > len(ActionType):
                self._note(at, "an action begins with one to four '!'", bangs[:40])
                bangs = "!!"
            pos = self.items.read(start.end())
            actions.append(self._action(names, ActionType(len(bangs)), "\n".join(comments), line))
            comments.clear()
        if comments:
            if text[pos:].strip(BLANKS):
                self._other(comments)
            else:
                self._script.othertext += "\n".join(comments)
        return self._script

    def _action(self, names: tuple[str, str], type_: ActionType, comments: str, line: int) -> Action:
        items, given_id = self.items, None
        # "A param named `id` is removed from every action"
        if "id" in items.values:
            given_id = items.values.pop("id")
            items.comments.pop("id", None)
        return Action(
            len(self._script.actions) + self._first_id,
            *names,
            type_,
            Params(items.values, items.args, items.comments, items.arg_comments),
            comments,
            self._priority,
            file=self._file,
            line=line,
            given_id=given_id,
        )

    def _names(self, header: str, at: int) -> tuple[str, str]:
        """Split a header into actor and name, noting what is wrong with it."""
        # Fixed twice, which leaves no run of `_`: a name that is written and read again must stay the same.
        parts = [name_fix(name_fix(part)) for part in header.split("#", 1)[0].split(".")]
        names = ("core", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        if len(parts) > 2:
            self._note(at, "an action has one or two names", header[:40])
        elif not all(parts):
            self._note(at, "an action needs a name directly behind '!'", header[:40])
        else:
            self._headers[header] = names
        return names

    def _other(self, comments: list[str]) -> None:
        script = self._script
        script.othertext += "\n".join(comments)
        if not script.othertext.endswith("\n"):
            script.othertext += "\n"
        comments.clear()

    def _note(self, at: int, message: str, piece: str) -> None:
        self.items.note(at, message, piece)
