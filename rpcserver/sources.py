"""Where a session's playbook comes from: a text, the operator's folders, or the network; and where checkouts lie.

Source: seeds/play-session.md (PlayArgs, coderoot); heroscript specification, section 6.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.engine import JobRunner
from jobs.model import Request
from play import Action, PlayBook
from play.reading import Limits
from rpcserver.errors import FORBIDDEN, RpcError
from rpcserver.settings import Settings

CODE = "code"
FETCH = "git.fetch"


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be added: one of text, path and url, and how.

    Args:
        branch, pull, reset: of a git repository.
    """

    text: str | None = None
    path: str | None = None
    url: str | None = None
    prio: int = 50
    branch: str | None = None
    pull: bool = False
    reset: bool = False
    replace: Mapping[str, str] | None = None


class Sources:
    """Reads playbooks for users.

    Args:
        settings: the folders the operator allowed, and how large a playbook may be.
        runner: what is on the network is fetched by a job.
    """

    def __init__(self, settings: Settings, runner: JobRunner) -> None:
        self._settings = settings
        self._runner = runner

    async def read(self, source: Source, request: Request, coderoot: Path) -> list[Action]:
        """Return the actions of a source, its includes followed; nothing is stored.

        Raises ParseError, with every mistake of all its files, SourceError, or TooLarge.
        """
        loop = asyncio.get_running_loop()

        def fetch(url: str, pull: bool, reset: bool, branch: str | None = None) -> Path:
            data = {"url": url, "coderoot": str(coderoot), "branch": branch, "pull": pull, "reset": reset}
            return Path(asyncio.run_coroutine_threadsafe(self._runner.run(FETCH, data, request), loop).result())

        # In a thread: a large playbook takes seconds, and a fetch waits for others.
        return await asyncio.to_thread(self._read, source, coderoot, fetch)

    def _read(self, source: Source, coderoot: Path, fetch: Callable[..., Path]) -> list[Action]:
        roots = [*self._settings.playbook_roots, coderoot]
        limits = Limits(self._settings.max_playbook_actions, self._settings.max_playbook_bytes)
        book = PlayBook(roots=roots, fetch=fetch, limits=limits)
        place: Path | None = None
        if source.url is not None:
            place = fetch(source.url, source.pull, source.reset, source.branch)
        elif source.path is not None:
            given = Path(source.path)
            places = [given] if given.is_absolute() else [root / given for root in roots]
            place = next(filter(_is_there, places), places[0])
        book.add(
            source.text or "",
            path=place,
            prio=source.prio,
            replace=source.replace,
            follow=lambda _: True,
            folder=roots[0],
        )
        return book.actions


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # no path at all: reading it says so


def code_folder(settings: Settings, user_id: str, context_name: str, coderoot: str | None) -> Path:
    """Return the folder a user's checkouts lie in.

    Args:
        coderoot: None: one of the context's own in the data folder; a relative path lies in the user's folder there,
            an absolute one inside a folder the operator allowed.

    Raises RpcError for a path that leaves these.
    """
    own = (settings.data / CODE / user_id).resolve()
    if not coderoot:
        return own / context_name
    folder = (own / coderoot).resolve() if "\x00" not in coderoot else Path("/")
    allowed = [own, *(root.resolve() for root in settings.code_roots)]
    if any(folder.is_relative_to(root) for root in allowed) and folder != own:
        return folder
    message = "A coderoot is a relative path, or lies inside a folder the operator allowed (setting code_roots)."
    raise RpcError(FORBIDDEN, "CODEROOT_REFUSED", message)
