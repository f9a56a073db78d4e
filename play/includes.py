"""Following `!!play.include path:...`. Source: heroscript specification, section 6.1."""

from collections.abc import Callable, Collection
from pathlib import Path

from play.action import Action
from play.errors import IncludeError, MissingParam, SourceError
from play.filters import ActionFilter
from play.replace import replaced
from play.script import parse
from play.sources import playbook_files, read_text

_INCLUDE = ActionFilter("play.include,core.include")
_MAX_DEPTH = 20
_MAX_FILES = 1000  # includes in includes double with every level, so the depth alone bounds nothing


class Includes:
    """One run over the includes of a playbook."""

    def __init__(
        self,
        allowed: Callable[[Path], Path],
        fetched: Callable[[str, bool, bool], Path],
        roots: Collection[Path] | None = None,
    ) -> None:
        """Args: allowed, fetched, roots: as in `PlayBook`; what is fetched has to lie in them too."""
        self._allowed, self._fetched, self._roots = allowed, fetched, roots
        self._files = 0

    def resolved(self, actions: list[Action], folder: Path, chain: tuple[Action, ...] = ()) -> list[Action]:
        """Give the actions with what each include names put behind it.

        Args:
            folder: what a relative path in a text without a file starts from.
            chain: the includes on the way here.

        Raises:
            IncludeError, ParseError
        """
        out: list[Action] = []
        includes: list[Action] = []
        for action in actions:
            out.append(action)
            if not action.done and _INCLUDE.matches(action.actor, action.name):
                includes.append(action)
                out += self._included(action, folder, chain)
        for action in includes:  # only now: a failed run leaves nothing done
            action.done = True
        return out

    def _included(self, action: Action, folder: Path, chain: tuple[Action, ...]) -> list[Action]:
        here = (*chain, action)
        if len(here) > _MAX_DEPTH:
            raise IncludeError(f"includes are more than {_MAX_DEPTH} deep{_shown(here)}")
        words = dict(pair.split(":", 1) for pair in action.params.get_list_default("replace", []) if ":" in pair)
        try:
            texts = [(file, read_text(file, self._roots)) for file in playbook_files(self._target(action, folder))]
        except (SourceError, MissingParam) as error:
            raise IncludeError(f"{error}{_shown(here)}") from None
        found: list[Action] = []
        for file, text in texts:
            self._enter(file, here)
            script = parse(replaced(text, words), file=str(file), priority=action.priority)
            found += self.resolved(script.actions, folder, here)
        return found

    def _target(self, action: Action, folder: Path) -> Path:
        params = action.params
        url = params.get_default("git_url", "") or params.get_default("url", "")
        if url:
            return self._fetched(url, params.get_default_false("git_pull"), params.get_default_false("git_reset"))
        # "resolve relative to the including file's directory (or session base for text)"
        start = Path(action.file).parent if action.file else folder
        return self._allowed(start / params.get("path"))

    def _enter(self, file: Path, chain: tuple[Action, ...]) -> None:
        self._files += 1
        if self._files > _MAX_FILES:
            raise IncludeError(f"more than {_MAX_FILES} files are included{_shown(chain)}")
        if any(action.file and Path(action.file).resolve() == file.resolve() for action in chain):
            raise IncludeError(f"{file} includes itself{_shown(chain)}")


def _shown(chain: tuple[Action, ...]) -> str:
    return "; included by " + " -> ".join(f"{action.file or '<text>'}:{action.line}" for action in chain)
