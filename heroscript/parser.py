"""A whole text of heroscript: finds the actions between prose, comments and code fences.

Source: heroscript.md 1 to 3. A quoted sentence stands over the line that obeys it.
"""

import gc
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from heroscript.action import DEFAULT_PRIORITY, Action, ActionType
from heroscript.errors import Mistake, ParseError, SourceError, TooLarge
from heroscript.grammar import BLANKS, ItemReader, comment_text, dedented, located, name_fix, normalised
from heroscript.params import Params
from heroscript.reader import Roots, playbook_files, read_text

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


_MAX_WORDS = 1000
_MAX_CHARACTERS = 64 * 1024 * 1024  # a few words that hold each other would fill any memory


def replaced(text: str, words: Mapping[str, str], max_characters: int = _MAX_CHARACTERS, file: str = "") -> str:
    """Put every word, one after another, in the place of `@key`, `${key}` and `{key}`.

    A key that itself begins with `@ $ [ {` is replaced as it stands. No boundaries: `@NAMES` is the word of `NAME`
    and an `S`. What one word brings in, those after it replace.

    Args:
        max_characters: how long the text may grow; longer than it is already it may always be.
        file: the name that errors carry.

    Raises:
        TooLarge: there are more than 1,000 words, or the text would grow too long; it says in which line that began.
    """
    if len(words) > _MAX_WORDS:
        raise TooLarge(f"There are {len(words)} words to be replaced, the most allowed are {_MAX_WORDS}.")
    for key, word in words.items():
        if key:
            for target in (key,) if key[0] in "@$[{" else ("@" + key, "${" + key + "}", "{" + key + "}"):
                grown = len(text) + text.count(target) * (len(word) - len(target))
                if grown > max(max_characters, len(text)):
                    line = text.count("\n", 0, text.find(target)) + 1
                    raise TooLarge(
                        f"{file or '<text>'}:{line}: with the word {key[:40]!r} in its places the playbook has more"
                        f" than the {max_characters} characters there is room for: split it."
                    )
                text = text.replace(target, word)
    return text


@dataclass(frozen=True, slots=True)
class Limits:
    """How many actions, and how many bytes with all words replaced, one reading may bring; None: any number."""

    actions: int | None = None
    bytes: int | None = None


UNLIMITED = Limits()


class Reading:
    """Reads texts and files into actions; `settle` raises what was wrong in any of them."""

    def __init__(
        self,
        roots: Roots = None,
        words: Mapping[str, str] | None = None,
        priority: int = DEFAULT_PRIORITY,
        limits: Limits = UNLIMITED,
    ) -> None:
        """Take what holds for all that is read.

        Args:
            roots: as in `read_text`.
            words: put in their places before a text is read.
            priority: stored on every action.
        """
        self._roots, self._words, self._priority = roots, words or {}, priority
        self._limits = limits
        self._actions = self._bytes = 0
        self._mistakes: list[Mistake] = []
        self._failures: list[tuple[SourceError, str, int, str]] = []
        self.othertext = ""

    def text(self, text: str, file: str = "", words: Mapping[str, str] | None = None) -> list[Action]:
        """Return the actions of a text, with those beside its mistakes; `words` instead of those of the reading.

        Raises:
            TooLarge
        """
        given, most = self._words if words is None else words, self._limits.actions
        text = self._grown(text, given, file)
        left = None if most is None else most - self._actions
        script, mistakes = examine(text, file=file, priority=self._priority, max_actions=left)
        self._actions += len(script.actions)
        if most is not None and self._actions > most:
            where = f"{file or '<text>'}:{script.actions[-1].line}"
            raise TooLarge(f"{where}: the playbook has more than {most} actions, the most allowed: split it.")
        self._mistakes += mistakes
        self.othertext += script.othertext
        return script.actions

    def _grown(self, text: str, words: Mapping[str, str], file: str) -> str:
        """Return a text with its words replaced, and count it in."""
        most = self._limits.bytes
        if most is None:
            return replaced(text, words)
        text = replaced(text, words, most - self._bytes, file)
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._bytes > most:
            raise TooLarge(f"{file or '<text>'}:1: {_too_long(most)}")
        return text

    def path(self, path: Path) -> list[Action]:
        """Return the actions of a file, or of all files of a folder."""
        return [action for file, text in self.files(path) for action in self.text(text, str(file))]

    def files(self, path: Path) -> list[tuple[Path, str]]:
        """Return the files a path stands for, with their texts; those that cannot be read are left out.

        Raises:
            SourceError: there is nothing at the path.
            TooLarge
        """
        found = []
        most = self._limits.bytes
        left = None if most is None else most - self._bytes
        for file in playbook_files(path):
            try:
                text = read_text(file, self._roots, left)
                if left is not None:
                    left -= len(text.encode())
                found.append((file, text))
            except TooLarge:
                raise TooLarge(f"{file}:1: {_too_long(most)}") from None
            except SourceError as error:
                self.fail(error, str(file))
        return found

    def fail(self, error: SourceError, file: str, line: int = 1, text: str = "") -> None:
        """Keep a file that cannot be read, or an include that cannot be followed: where it shows, and what says so."""
        self._failures.append((error, file, line, text or Path(file).name))

    def settle(self) -> None:
        """Require that nothing was wrong.

        Raises:
            ParseError: some text is not heroscript; it tells everything that was wrong.
            SourceError: only files or includes could not be read; all of them are told.
        """
        if self._mistakes:
            others = [Mistake(file, line, 1, str(error), text) for error, file, line, text in self._failures]
            raise ParseError(dict.fromkeys([*self._mistakes, *others]))  # a file that is included twice tells once
        if self._failures:
            first = self._failures[0][0]
            raise first if len(self._failures) == 1 else type(first)("\n".join(str(one[0]) for one in self._failures))


def _too_long(most: int | None) -> str:
    return f"with this file the playbook has more than {most} bytes, the most allowed: split it."
