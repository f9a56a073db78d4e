"""One reading of any number of texts and files, which is all right or adds nothing: everything wrong in it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from play.action import DEFAULT_PRIORITY, Action
from play.errors import Mistake, ParseError, SourceError, TooLarge
from play.replace import replaced
from play.script import examine
from play.sources import Roots, playbook_files, read_text


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
