"""The job that turns a folder into sets and its files into tokens, in one pass and in bounded memory."""

import json
import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from core import sets, tree, users
from core.calls import Core
from core.errors import NotWritable
from core.tree import Node
from jobs.errors import JobError
from jobs.model import Commit, JobContext, job
from store import NoDescriptors, named, new_id

BATCH = 2000
MAX_DEPTH = 200
PREVIEW_BYTES = 1024
PREVIEW_CHARACTERS = 400
MAX_PROBLEMS_KEPT = 1000


class ImportTree(BaseModel):
    """Input of import_tree; `into` None means the user's home; entries whose name is in `exclude` are left out."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    path: Path
    into: str | None = None
    is_public: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(slots=True)
class Imported:
    """Output of import_tree. `problems` are (path, what happened to it), the first thousand of `problem_count`."""

    set_id: str
    sets: int = 0
    tokens: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    problem_count: int = 0


@dataclass(slots=True)
class Batch:
    """Nodes to add together, and sets that are complete now."""

    nodes: list[Node] = field(default_factory=list)
    filled: dict[str, int] = field(default_factory=dict)


@job(
    "import_tree",
    ImportTree,
    lane="long",
    timeout_s=24 * 3600,
    on_crash="retry",
    is_internal=True,
    calls=["core.user.read", "core.set.show", "core.tree.add", "core.tree.attach", "core.tree.delete"],
)
async def import_tree(job: JobContext, data: ImportTree) -> Commit[Imported]:
    """Import a folder below a set. It is built aside and shown when it is complete; a failure takes it away again."""
    root = f"set_{job.id.removeprefix('j_')}"
    if job.attempt > 1:
        await _take_away(job, root)
        raise JobError(
            "The import was interrupted, by a kill of the server or for want of room or descriptors. What it had made"
            " is gone again: import once more."
        )
    if not data.path.is_dir():
        hint = " A world file is imported with --format json." if data.path.suffix == ".json" else ""
        raise JobError(f"{data.path} is not a folder that can be read.{hint}")
    into = await job.read(partial(_target, user_id=job.user_id, into=data.into))
    imported = Imported(root)
    batches = _Scan(data.path, imported, frozenset(data.exclude)).batches()
    try:
        while (batch := await job.in_thread(next, batches, None)) is not None:
            await job.write(partial(_add, batch=batch, is_public=data.is_public))
            job.progress(imported.sets + imported.tokens, message=f"{imported.sets} sets, {imported.tokens} tokens")
    except BaseException:
        await _take_away(job, root)
        raise
    return Commit(partial(_attach, imported=imported, into=into))


async def _take_away(job: JobContext, root: str) -> None:
    while not await job.write(lambda core: core(tree.delete, root, BATCH)):
        pass


def _target(core: Core, user_id: str, into: str | None) -> str:
    set_id = into or core(users.read, user_id).home_set_id
    place = core(sets.show, set_id)
    if not place.rights.can_write:
        raise NotWritable(set_id, place.name)  # now, and not when all of the tree is built
    return place.id


def _add(core: Core, batch: Batch, is_public: bool) -> None:
    core(tree.add, batch.nodes, is_public, batch.filled)


def _attach(core: Core, imported: Imported, into: str) -> Imported:
    core(tree.attach, imported.set_id, into)
    return imported


class _Scan:
    """Walks a folder depth first: what it holds is one open folder a level, and one batch."""

    def __init__(self, root: Path, imported: Imported, excluded: frozenset[str]) -> None:
        self._root = root
        self._excluded = excluded
        self._imported = imported
        self._batch = Batch()

    def batches(self) -> Iterator[Batch]:
        name = _shown(self._root.resolve().name) or "/"
        self._put(Node(new_id("t_"), None, 0, "set", name, "{}", self._imported.set_id))
        self._imported.sets += 1
        stack = [_Level(self._imported.set_id, self._open(str(self._root)))]
        try:
            while stack:
                entry = self._next(stack[-1])
                if entry is None:
                    level = stack.pop()
                    self._batch.filled[level.set_id] = level.count
                else:
                    self._take(entry, stack)
                if len(self._batch.nodes) >= BATCH:
                    yield self._full()
            yield self._full()
        finally:
            for level in stack:
                level.close()

    def _take(self, entry: "os.DirEntry[str]", stack: list["_Level"]) -> None:
        level = stack[-1]
        if entry.name in self._excluded:
            return
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            token = None if is_folder else self._file(entry)
        except OSError as error:
            self._unread(entry.path, "skipped", error)
            return
        name = _shown(entry.name)
        if name != entry.name:
            self._problem(entry.path, f"kept as {name!r}: its name is not valid UTF-8")
        if is_folder and len(stack) >= MAX_DEPTH:
            self._problem(entry.path, f"skipped: deeper than {MAX_DEPTH} levels")
        elif is_folder:
            level.count += 1
            set_id = new_id("set_")
            self._put(Node(new_id("t_"), level.set_id, level.count, "set", name, "{}", set_id))
            self._imported.sets += 1
            stack.append(_Level(set_id, self._open(entry.path)))
        elif token is not None:
            level.count += 1
            self._put(Node(new_id("t_"), level.set_id, level.count, token[0], name, token[1]))
            self._imported.tokens += 1

    def _file(self, entry: "os.DirEntry[str]") -> tuple[str, str] | None:
        status = entry.stat(follow_symlinks=False)
        attributes: dict[str, object] = {"size": status.st_size, "modified": status.st_mtime_ns // 1_000_000}
        if stat.S_ISLNK(status.st_mode):
            # Never followed: what it points to may be elsewhere, or a loop.
            attributes["target"] = _shown(os.readlink(entry.path))
            return "symlink", json.dumps(attributes)
        if not stat.S_ISREG(status.st_mode):
            self._problem(entry.path, "skipped: neither a file nor a folder")
            return None
        attributes["media_type"] = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
        preview = self._preview(entry.path) if status.st_size else None
        if preview is not None:
            attributes["preview"] = preview
        return "file", json.dumps(attributes)

    def _preview(self, path: str) -> str | None:
        try:
            # Not blocking: a file that became a pipe meanwhile must not hold the import.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            self._unread(path, "kept without preview", error)
            return None
        try:
            head = os.read(descriptor, PREVIEW_BYTES)
        except OSError as error:
            self._unread(path, "kept without preview", error)
            return None
        finally:
            os.close(descriptor)
        return _text(head)

    def _open(self, path: str) -> Iterator["os.DirEntry[str]"]:
        try:
            return os.scandir(path)
        except OSError as error:
            self._unread(path, "kept empty", error)
            return iter(())

    def _next(self, level: "_Level") -> "os.DirEntry[str] | None":
        try:
            return next(level.entries, None)
        except OSError as error:
            self._unread(str(self._root), "not read to its end", error)
            return None

    def _put(self, node: Node) -> None:
        self._batch.nodes.append(node)

    def _full(self) -> Batch:
        batch, self._batch = self._batch, Batch()
        return batch

    def _unread(self, path: str, what: str, error: OSError) -> None:
        """Note what cannot be read; when it is the server that has no descriptor left, the import has failed."""
        if isinstance(meaning := named(error), NoDescriptors):
            raise meaning from error
        self._problem(path, f"{what}: {error.strerror}")

    def _problem(self, path: str, what: str) -> None:
        self._imported.problem_count += 1
        if len(self._imported.problems) < MAX_PROBLEMS_KEPT:
            self._imported.problems.append((_shown(path), what))


@dataclass(slots=True)
class _Level:
    """A folder being read, and how many of its entries became tokens so far."""

    set_id: str
    entries: Iterator["os.DirEntry[str]"]
    count: int = 0

    def close(self) -> None:
        if hasattr(self.entries, "close"):
            self.entries.close()


def _shown(name: str) -> str:
    """Return a name as Unicode text; bytes that are none become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def _text(head: bytes) -> str | None:
    if b"\x00" in head:
        return None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")  # a character cut in two at the end
    return text[:PREVIEW_CHARACTERS]


JOBS = (import_tree,)
