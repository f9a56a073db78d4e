"""Following `!!play.include path:...`. Source: heroscript.md 6.1."""

from collections.abc import Callable
from pathlib import Path

from heroscript.action import Action
from heroscript.errors import IncludeError, ParamError, SourceError, TooLarge
from heroscript.filters import ActionFilter
from heroscript.parser import Reading

_INCLUDE = ActionFilter("play.include,core.include")
_MAX_DEPTH = 20
_BY = "; included by "
_MAX_FILES = 1000  # includes in includes double with every level, so the depth alone bounds nothing


def is_include(action: Action) -> bool:
    """Tell whether an action includes another playbook."""
    return _INCLUDE.matches(action.actor, action.name)


class Includes:
    """One run over the includes of a playbook; what cannot be followed is kept in the reading."""

    def __init__(
        self,
        reading: Reading,
        allowed: Callable[[Path], Path],
        fetched: Callable[[str, bool, bool], Path],
        follows: Callable[[Action], bool],
    ) -> None:
        """Args: allowed, fetched: as in `PlayBook`; follows: which includes to follow, the others stay as they are."""
        self._reading, self._allowed, self._fetched, self._follows = reading, allowed, fetched, follows
        self._files = 0
        self.followed: list[Action] = []

    def resolved(self, actions: list[Action], folder: Path, chain: tuple[Action, ...] = ()) -> list[Action]:
        """Give the actions with what each include names put behind it.

        Args:
            folder: what a relative path in a text without a file starts from.
            chain: the includes on the way here.
        """
        out: list[Action] = []
        for action in actions:
            out.append(action)
            if action.done or not is_include(action) or not self._follows(action):
                continue
            self.followed.append(action)
            here = (*chain, action)
            try:
                out += self._included(action, folder, here)
            except TooLarge as error:
                if _BY in str(error):
                    raise
                raise TooLarge(f"{error}{_shown(here)}") from None
            except (SourceError, ParamError) as error:
                told = IncludeError(f"{error}{_shown(here)}")
                self._reading.fail(told, action.file, action.line, action.title)
        return out

    def _included(self, action: Action, folder: Path, here: tuple[Action, ...]) -> list[Action]:
        if self._files > _MAX_FILES:
            return []  # said once
        if len(here) > _MAX_DEPTH:
            raise IncludeError(f"includes are more than {_MAX_DEPTH} deep")
        words = dict(pair.split(":", 1) for pair in action.params.get_list_default("replace", []) if ":" in pair)
        found: list[Action] = []
        for file, text in self._reading.files(self._target(action, folder)):
            self._files += 1
            if self._files > _MAX_FILES:
                raise IncludeError(f"more than {_MAX_FILES} files are included")
            if any(action.file and Path(action.file).resolve() == file.resolve() for action in here):
                raise IncludeError(f"{file} includes itself")
            actions = self._reading.text(text, str(file), words)
            for included in actions:
                included.priority = action.priority
            found += self.resolved(actions, folder, here)
        return found

    def _target(self, action: Action, folder: Path) -> Path:
        params = action.params
        url = params.get_default("git_url", "") or params.get_default("url", "")
        if url:
            pull, reset = params.get_default_false("git_pull"), params.get_default_false("git_reset")
            return self._allowed(self._fetched(url, pull, reset))
        # "resolve relative to the including file's directory (or session base for text)"
        start = Path(action.file).parent if action.file else folder
        return self._allowed(start / params.get("path"))


def _shown(chain: tuple[Action, ...]) -> str:
    return _BY + " -> ".join(f"{action.file or '<text>'}:{action.line}" for action in chain)
