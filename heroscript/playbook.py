"""`PlayBook`: actions from any number of texts and files, found, ordered, executed and written again."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from heroscript.action import DEFAULT_PRIORITY, Action
from heroscript.errors import FindError, SourceError
from heroscript.filters import ActionFilter, Order
from heroscript.includes import Includes
from heroscript.params import Params
from heroscript.parser import UNLIMITED, Limits, Reading
from heroscript.reader import Roots

Fetch = Callable[[str, bool, bool], Path]
"""Brings the address of a git repository to this machine: `(url, pull, reset)` to the path of what it names."""


class PlayBook:
    """Actions in the order they were added, with ids 1 to n.

    Every `add` is atomic: a mistake anywhere in it adds nothing. Source: heroscript.md 5, 6.
    """

    def __init__(
        self, text: str = "", *, roots: Roots = None, fetch: Fetch | None = None, limits: Limits = UNLIMITED
    ) -> None:
        """Start empty, or with the actions of `text`.

        Args:
            roots: folders outside which neither `add(path=...)` nor an include may read; None allows every path. Where
                `fetch` leads has to lie in one of them, too.
            fetch: what brings a url to this machine; without it a url is an error.
            limits: of what one `add` may bring.

        Raises:
            ParseError: `text` is not heroscript.
        """
        self.actions: list[Action] = []
        self.othertext = ""
        self.priorities: dict[int, list[str]] = {}
        self._roots = None if roots is None else [root.resolve() for root in roots]
        self._fetch = fetch
        self._limits = limits
        if text:
            self.add(text)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __len__(self) -> int:
        return len(self.actions)

    def __eq__(self, other: object) -> bool:
        return self.actions == other.actions if isinstance(other, PlayBook) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def add(
        self,
        text: str = "",
        *,
        path: str | Path | None = None,
        url: str | None = None,
        prio: int = DEFAULT_PRIORITY,
        replace: Mapping[str, str] | None = None,
        git_pull: bool = False,
        git_reset: bool = False,
        follow: Callable[[Action], bool] | None = None,
        folder: Path | None = None,
    ) -> list[Action]:
        """Add the actions of a text, a file or folder, or what a url names; a url goes before a path before a text.

        Args:
            prio: stored on every action; it orders nothing.
            replace: words put in the place of `@key`, `${key}` and `{key}` before the text is read.
            git_pull, git_reset: handed to `fetch`.
            follow: which includes to follow at once, from `folder` on as in `resolve_includes`; None: none of them.

        Raises:
            ParseError: with the mistakes of all texts and files, those that are included too.
            SourceError: a path or url cannot be read, or lies outside the roots.
            TooLarge: there is more of it than the limits allow.
        """
        place = self.fetched(url, git_pull, git_reset) if url else path
        reading = Reading(self._roots, replace, prio, self._limits)
        added = reading.text(text) if place is None else reading.path(self.allowed(Path(place)))
        added = self._followed(reading, added, follow or (lambda _: False), folder)
        for number, action in enumerate(added, self.actions[-1].id + 1 if self.actions else 1):
            action.id = number
        self.actions += added
        self.othertext += reading.othertext
        return added

    def resolve_includes(self, folder: Path | None = None) -> None:
        """Put what every `!!play.include` names behind it, nested ones too, and mark the includes done.

        All ids are counted anew. Atomic like `add`.

        Args:
            folder: what a relative path in a text without a file starts from; None: the working folder.

        Raises:
            ParseError: an included text is not heroscript; tells the mistakes of all of them.
            IncludeError: an include leads nowhere, in a circle, too deep or outside the roots; shows the chain.
        """
        self.actions = self._followed(Reading(self._roots), self.actions, lambda _: True, folder)
        for number, action in enumerate(self.actions, 1):
            action.id = number

    def _followed(
        self, reading: Reading, actions: list[Action], follow: Callable[[Action], bool], folder: Path | None
    ) -> list[Action]:
        includes = Includes(reading, self.allowed, self.fetched, follow)
        found = includes.resolved(actions, folder or Path.cwd())
        reading.settle()
        for action in includes.followed:  # only now: a failed run leaves nothing done
            action.done = True
        return found

    def allowed(self, path: Path) -> Path:
        """Give the path when it lies inside the roots.

        Raises:
            SourceError: it lies outside.
        """
        if self._roots is None:
            return path
        try:
            real = path.resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise SourceError(f"{path}: {error}") from None
        if any(real.is_relative_to(root) for root in self._roots):
            return real
        raise SourceError(f"{path}: outside the folders that may be read")

    def fetched(self, url: str, pull: bool, reset: bool) -> Path:
        """Bring what a url names to this machine.

        Raises:
            SourceError: there is nothing that could fetch it.
        """
        if self._fetch is None:
            raise SourceError(f"{url}: no way to fetch a url was given")
        return self._fetch(url, pull, reset)

    def find(self, filter: str = "", include_done: bool = False) -> list[Action]:
        """Give the actions a filter such as `git.*,site:page` matches, by id; done ones only when asked."""
        wanted = ActionFilter(filter)
        return [
            action
            for action in self.actions
            if (include_done or not action.done) and wanted.matches(action.actor, action.name)
        ]

    def names(self) -> list[str]:
        """Give every `actor.name` once, in order of appearance."""
        return list(dict.fromkeys(action.title for action in self.actions))

    def exists(self, filter: str) -> bool:
        """Tell whether an action that is not done matches."""
        return bool(self.find(filter))

    def exists_once(self, filter: str) -> bool:
        """Tell whether exactly one action that is not done matches."""
        return len(self.find(filter)) == 1

    def get(self, filter: str) -> Action:
        """Give the one action that matches.

        Raises:
            FindError: none does, or several.
        """
        found = self.find(filter)
        if len(found) != 1:
            raise FindError(f"{filter!r} must match one action, not {len(found)}{_places(found)}")
        return found[0]

    def ensure_once(self, filter: str) -> None:
        """Require that exactly one action matches.

        Raises:
            FindError
        """
        self.get(filter)

    def max_once(self, filter: str) -> bool:
        """Tell whether an action matches.

        Raises:
            FindError: several do.
        """
        return self.exists(filter) and self.get(filter) is not None

    def ensure_processed(self, filter: str = "") -> None:
        """Require that every action that matches is done.

        Raises:
            FindError: with those that are not, as `actor.name` and line.
        """
        left = self.find(filter)
        if left:
            raise FindError(f"{len(left)} actions are not done{_places(left)}")

    def empty_check(self) -> None:
        """Require that no action is left over. Source: heroscript.md 5.3."""
        self.ensure_processed()

    def params_get(self, filter: str) -> Params:
        """Merge the parameters of all actions that match; later ones win."""
        merged = Params()
        merged.merge(*(action.params for action in self.find(filter)))
        return merged

    def replace(self, words: Mapping[str, str]) -> None:
        """Put words in the place of `{NAME}` in the parameters of all actions that are not done."""
        for action in self.actions:
            if not action.done:
                action.params.replace(words)

    def priorities_add(self, priorities: Mapping[int, str]) -> None:
        """Register comma lists of filters by number; a filter that is registered under any number stays there."""
        known = {name for filters in self.priorities.values() for name in filters}
        for number, filters in priorities.items():
            for name in filter(None, (part.strip() for part in filters.split(","))):
                if name not in known:
                    known.add(name)
                    self.priorities.setdefault(number, []).append(name)

    def filtersort(self, priorities: Mapping[int, str] | None = None, prio_only: bool = False) -> list[Action]:
        """Order all actions by the lowest number whose filter matches; those that match none have 50.

        Sets `priority` on every action. Inside a number the order is that of the ids.

        Args:
            priorities: filters by number, which replace the registered ones; None uses those.
            prio_only: give only the actions that some filter matches.
        """
        if priorities is not None:
            self.priorities = {}
            self.priorities_add(priorities)
        order = Order({number: ",".join(filters) for number, filters in self.priorities.items()})
        chosen = []
        for action in self.actions:
            number = order.of(action.actor, action.name)
            action.priority = DEFAULT_PRIORITY if number is None else number
            if number is not None or not prio_only:
                chosen.append(action)
        return sorted(chosen, key=lambda action: action.priority)

    def actions_sorted(self) -> list[Action]:
        """Give all actions in the order of the registered priorities, also those added since; by id without any."""
        return self.filtersort() if self.priorities else list(self.actions)

    def heroscript(self, show_done: bool = False) -> str:
        """Write the actions that are not done in the order of execution, so that reading them gives equal ones."""
        return "\n".join(action.heroscript() for action in self.actions_sorted() if show_done or not action.done)

    def hashkey(self) -> str:
        """Give the BLAKE2b-160 of the whole playbook as heroscript, in hexadecimal."""
        return hashlib.blake2b(
            self.heroscript(show_done=True).encode("utf-8", "surrogatepass"), digest_size=20
        ).hexdigest()

    def __str__(self) -> str:
        return self.heroscript()


def _places(actions: list[Action]) -> str:
    shown = ", ".join(f"{action.title} ({action.file or '<text>'}:{action.line})" for action in actions[:20])
    return f": {shown}" if shown else ""
