"""Plugin: the actions `git.*`, also called `gittools.*`: clone, pull, reset, list, commit and push, over https.

Checkouts lie below the session's coderoot as `<provider>/<account>/<name>`, that of a branch, tag or commit that was
asked for as `<name>@<branch>`: none is ever switched from one to another. What playbooks are read from lies apart from
them, in a folder for each commit. What a script writes can name a repository, a branch and a message; it can neither
start a program nor leave that folder.
"""

import asyncio
import hashlib
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog
from pydantic import BaseModel, ConfigDict

from heroscript import Params
from heroscript.errors import MalformedUrl
from heroscript.giturl import GitUrl
from jobs import JobContext, JobError, JobSpec, job
from jobs.errors import raise_if_of_disk
from jobs.remotes.http import Hosts, Meter, Stopped, download
from plugins.builtin import checkouts
from plugins.builtin.checkouts import UNREADABLE, Remote
from plugins.hooks import Play, hookimpl, plays

T = TypeVar("T")

log = structlog.get_logger("git")

MAX_CHECKOUTS = 10_000
JOB_TIMEOUT_S = 3600.0
_SINGLE = (".hero", ".heroscript", ".md")
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{))(?![-/.])[\w./@+=-]{1,200}(?<![/.])")
_NAME = re.compile(r"[A-Za-z0-9_.~-]{1,100}")
_FETCHED = ".fetched"
_LOOK_EVERY_S = 0.5  # whether anybody still waits for a checkout
_ACTIONS = ("clone", "pull", "reset", "list", "commit", "push", "repo_action")


class Checkout(BaseModel):
    """Input of the jobs git.*: which repository, below which folder, and how."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    coderoot: str
    url: str = ""
    name: str = ""
    branch: str | None = None
    depth: int | None = None
    pull: bool = False
    reset: bool = False
    message: str = ""
    author: str = ""
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A repository, what of it was asked for (an empty branch is the remote's default), and a path inside."""

    url: GitUrl
    remote: Remote
    branch: str
    path: str

    @property
    def folder(self) -> Path:
        """Where its checkout lies below a coderoot."""
        return Path(self.url.provider, self.url.account, _folder_name(self.url.name, self.branch))


class Git:
    """The plugin. `hosts` says which hosts may be called."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()  # of checkouts in use

    @hookimpl
    def register_jobs(self) -> list[JobSpec]:
        """Bring the jobs: each one action on a checkout, in a thread."""
        functions = {
            "git.fetch": self.fetch,
            "git.clone": self.clone,
            "git.pull": self.pull,
            "git.reset": self.reset,
            "git.list": self.list,
            "git.commit": self.commit,
            "git.push": self.push,
        }
        # Of the memory lane: they touch no row, and leave none that would keep the password they were given.
        return [
            job(name, Checkout, lane="memory", timeout_s=JOB_TIMEOUT_S, is_internal=True)(function)
            for name, function in functions.items()
        ]

    @plays(",".join(f"{actor}.{name}" for actor in ("git", "gittools") for name in _ACTIONS))
    async def play_git(self, play: Play) -> Any:
        """`!!git.clone url:... branch:...`, and pull, reset, list, commit, push on what is named by `url` or `name`."""
        for action in play.find("git.*,gittools.*"):
            params = action.params
            what = params.get("action") if action.name == "repo_action" else action.name
            if what not in _ACTIONS[:-1]:
                raise JobError(f"A repo_action is one of {', '.join(_ACTIONS[:-1])}.")
            data = {"coderoot": str(play.coderoot), **_given(params)}
            return await play.run(f"git.{what}", data)
        return None

    async def fetch(self, job: JobContext, data: Checkout) -> str:
        """Bring what an address names, a repository, a part of one or a single file, and return where it lies.

        What was brought once is used again, unless `pull` or `reset` ask for what is new; whatever others do with
        checkouts meanwhile does not touch it.
        """
        path = data.url.partition("#")[0].partition("?")[0]
        is_page = any(mark in path for mark in ("/blob/", "/src/", "/tree/"))
        is_file = path.startswith("https://") and path.endswith(_SINGLE) and not is_page
        return await self._in_thread(job, data, self._file if is_file else self._fetched)

    async def clone(self, job: JobContext, data: Checkout) -> dict[str, Any]:
        """Clone a repository, or use the checkout there is; `pull` and `reset` bring that up to date."""
        return await self._in_thread(job, data, self._cloned)

    async def pull(self, job: JobContext, data: Checkout) -> dict[str, Any]:
        """Bring the newest commits."""
        return await self._on_each(job, data, checkouts.pull)

    async def reset(self, job: JobContext, data: Checkout) -> dict[str, Any]:
        """Throw local changes away and take what the remote has."""
        return await self._on_each(job, data, checkouts.reset)

    async def list(self, job: JobContext, data: Checkout) -> list[str]:
        """Return the checkouts below the coderoot, as `<provider>/<account>/<name>`."""
        return await self._hosts.threads.run(lambda: [str(name) for name in _checkouts(Path(data.coderoot), data.name)])

    async def commit(self, job: JobContext, data: Checkout) -> dict[str, Any]:
        """Commit what was changed."""
        if not data.message or "\x00" in data.message:
            raise JobError("git.commit needs a message.")
        author = data.author or "rpcserver <rpcserver@localhost>"
        if not re.fullmatch(r"[^<>\n\x00]+ <[^<>\s\x00]+>", author):
            raise JobError("An author is written as: Name <name@example.org>.")
        return await self._on_each(job, data, lambda _, folder: checkouts.commit(folder, data.message, author))

    async def push(self, job: JobContext, data: Checkout) -> dict[str, Any]:
        """Send commits to the remote."""
        return await self._on_each(job, data, checkouts.push)

    async def _on_each(self, job: JobContext, data: Checkout, act: Callable[[Remote, Path], Any]) -> dict[str, Any]:
        def run(data: Checkout, meter: Meter) -> dict[str, Any]:
            root = Path(data.coderoot)
            names = [self._asked(data, meter).folder] if data.url else _meant(root, data.name, data.branch or "")
            done = {}
            for name in names:
                with self._alone(root / name, meter):
                    remote = Remote(checkouts.origin(root / name), self._hosts, meter, data.user, data.password)
                    done[str(name)] = act(remote, root / name)
            return done

        return await self._in_thread(job, data, run)

    async def _in_thread(self, job: JobContext, data: Checkout, run: Callable[[Checkout, Meter], T]) -> T:
        """Run in a thread; when the job is stopped, so is the fetch, at the next bytes it gets."""
        if data.branch and not _BRANCH.fullmatch(data.branch):
            raise JobError("That cannot be the name of a branch, a tag or a commit.")
        stopped = threading.Event()
        try:
            meter = Meter(self._hosts.max_bytes, stopped, self._hosts.threads.beat)
            async with job.waiting():
                return await self._hosts.threads.run(run, data, meter)
        except asyncio.CancelledError:
            stopped.set()
            raise
        except Stopped:
            raise JobError("The fetch was stopped.") from None
        except UNREADABLE as error:
            # Packs, trees, references and configurations are strangers' bytes.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            log.info("git_unreadable", error=type(error).__name__, where=where)
            message = f"The repository cannot be read: it is damaged, or made to harm ({type(error).__name__})."
            raise JobError(message) from None
        except OSError as error:
            raise_if_of_disk(error)
            raise JobError(f"The checkout cannot be written: {error.strerror or type(error).__name__}.") from None

    @contextmanager
    def _alone(self, folder: Path, meter: Meter) -> Iterator[None]:
        """Have a checkout to oneself inside the block, in a thread. Raises Stopped when nobody waits any more."""
        with self._guard:
            lock = self._locks.setdefault(folder.resolve(), threading.Lock())
        while not lock.acquire(timeout=_LOOK_EVERY_S):
            meter.check()
        try:
            yield
        finally:
            lock.release()

    def _asked(self, data: Checkout, meter: Meter) -> Asked:
        url = _parsed(data.url)
        remote = Remote(_address(url, data.url), self._hosts, meter, data.user, data.password)
        branch, path = data.branch or url.branch, url.path
        if url.branch and url.path and not data.branch:
            branch, path = checkouts.longest_branch(remote, url.branch, url.path)
        return Asked(url, remote, branch, path)

    def _cloned(self, data: Checkout, meter: Meter) -> dict[str, Any]:
        asked = self._asked(data, meter)
        folder = Path(data.coderoot) / asked.folder
        with self._alone(folder, meter):
            if not folder.exists():
                checkouts.clone(asked.remote, folder, asked.branch, data.depth)
            elif checkouts.origin(folder) != asked.remote.url:
                raise JobError(f"{asked.folder} was checked out from another address: name another coderoot.")
            elif data.reset:
                checkouts.reset(asked.remote, folder)
            elif data.pull:
                checkouts.pull(asked.remote, folder)
            return {"path": str(folder), **checkouts.status(folder)}

    def _fetched(self, data: Checkout, meter: Meter) -> str:
        url = _parsed(data.url)
        folder = Path(data.coderoot) / _FETCHED / url.provider / url.account / url.name
        # By all that was asked for: where a branch ends and a path begins is for the remote to say.
        key = hashlib.sha256(repr((_address(url, data.url), data.branch, url.branch, url.path)).encode()).hexdigest()
        known = None if data.pull or data.reset else checkouts.noted(folder, key[:32])
        if known is None:
            asked = self._asked(data, meter)
            known = checkouts.bring(asked.remote, folder, asked.branch), asked.path
            checkouts.note(folder, key[:32], *known)
        files, path = known
        inside = (files / path).resolve()
        if not inside.is_relative_to(files.resolve()) or ".git" in inside.relative_to(files.resolve()).parts:
            raise JobError("The path leaves the repository.")
        if not inside.exists():
            raise JobError(f"The repository has no file or folder {path[:200]!r} there.")
        return str(inside)

    def _file(self, data: Checkout, meter: Meter) -> str:
        name = data.url.partition("?")[0].rpartition("/")[2]
        digest = hashlib.sha256(data.url.encode()).hexdigest()[:32]
        path = Path(data.coderoot) / ".files" / f"{digest}{Path(name).suffix}"
        if not path.exists() or data.pull or data.reset:
            content = download(self._hosts, data.url, meter)
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".new-{digest}-{threading.get_ident()}")
            beside.write_bytes(content)
            beside.replace(path)
        return str(path)


def _parsed(url: str) -> GitUrl:
    scheme, mark, _ = url.strip().partition("://")
    if (mark and scheme.lower() != "https") or (not mark and "@" in url.partition("/")[0]):
        raise JobError("Repositories are fetched over https alone: write the address as https://host/account/name.")
    try:
        parsed = GitUrl.parse(url)
    except MalformedUrl as error:
        raise JobError(f"{str(error).capitalize()}, as in https://example.org/account/name.") from None
    if not (_NAME.fullmatch(parsed.account) and _NAME.fullmatch(parsed.name)):
        raise JobError("An account and a repository are named with letters, digits and _ . ~ - alone.")
    return parsed


def _address(url: GitUrl, given: str) -> str:
    port = f":{url.port}" if url.port else ""
    suffix = ".git" if f"/{url.name}.git" in given else ""
    return f"https://{url.host}{port}/{url.account}/{url.name}{suffix}"


def _folder_name(name: str, branch: str) -> str:
    # No repository has a "@" in its name, no branch a ",".
    return f"{name}@{branch.replace('/', ',')}" if branch else name


def _meant(root: Path, name: str, branch: str) -> list[Path]:
    """Return the checkouts that a name, or none, and a branch mean. Raises JobError when that is not clear."""
    found = _checkouts(root, _folder_name(name, branch)) if name else []
    if not found:
        behind = _folder_name("", branch)
        found = [
            path
            for path in _checkouts(root)
            if name in ("", path.name.partition("@")[0], str(path).partition("@")[0]) and path.name.endswith(behind)
        ]
        if len(found) > 1:
            raise JobError(f"Say which checkout is meant, by its url or name: {', '.join(map(str, found[:10]))}.")
    if not found:
        raise JobError("No checkout is meant: give its url, or a name that git.list shows.")
    return found


def _checkouts(root: Path, name: str = "") -> list[Path]:
    """List the checkouts whose last part, or whole name, is `name`; all of them without one."""
    found = sorted(path.parent.relative_to(root) for path in root.glob("[!.]*/*/*/.git") if not path.is_symlink())
    return [path for path in found[:MAX_CHECKOUTS] if name in ("", path.name, str(path))]


def _given(params: Params) -> dict[str, Any]:
    url = params.get_default("url", params.get_default("git_url", params.get_default("repo", "")))
    given: dict[str, Any] = {
        "url": url,
        "name": params.get_default("name", params.get_default("filter", "")),
        "branch": params.get_default("branch", params.get_default("branchname", "")) or None,
        "pull": params.get_default_false("pull"),
        "reset": params.get_default_false("reset"),
        "message": params.get_default("message", ""),
        "author": params.get_default("author", ""),
        "user": params.get_default("user", "git" if params.exists("password") else ""),
        "password": params.get_default("password", ""),
    }
    if params.exists("depth"):
        given["depth"] = params.get_u32("depth") or None
    elif params.get_default_false("light"):
        given["depth"] = 1
    return given
