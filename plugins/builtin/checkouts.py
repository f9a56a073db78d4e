"""Git repositories on this machine, without git: fetched over https through the guard, written as plain files.

Nothing here can start a program: no git is called, hooks are never run, no configuration but the repository's own is
read, filters (smudge, LFS) and submodules are not followed, and a symbolic link is written as the file git keeps for
one. Everything blocks: call it in a thread. Source: libraries.md 1.7; heroscript.md 6.2.
"""

import os
import re
import shutil
import stat
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from dulwich.client import HttpGitClient, HTTPUnauthorized
from dulwich.config import ConfigFile, StackedConfig
from dulwich.errors import FileFormatException, GitProtocolError, NotGitRepository
from dulwich.index import build_index_from_tree, commit_tree, validate_path_element_ntfs
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo
from urllib3.exceptions import HTTPError

from jobs import JobError
from jobs.remotes.http import Hosts, Meter, told

_BLOCK = 4096  # what the smallest file takes on a disk
_PART = 64 * 1024
_OFS_DELTA, _REF_DELTA = 6, 7
_HEADER_BYTES, _SHA_BYTES = 12, 20


def receive(client: HttpGitClient, repo: Repo, wants: Sequence[ObjectID], depth: int | None, most: int) -> None:
    """Fetch objects into a repository, none of which has more than `most` bytes. Raises JobError."""
    with TemporaryFile(dir=repo.object_store.path) as file:
        walker = repo.get_graph_walker()
        result = client.fetch_pack(b"", lambda _, depth=None: list(wants), walker, file.write, depth=depth)
        if result.object_format not in (None, repo.object_format.name):
            raise JobError(f"The repository names its objects by {result.object_format}, which is not read here.")
        if file.tell():
            file.seek(0)
            check_pack(file, most)
            file.seek(0)
            repo.object_store.add_thin_pack(file.read, None)
    repo.update_shallow(result.new_shallow, result.new_unshallow)


def check_pack(file: BinaryIO, most: int) -> None:
    """Require that no object of a pack has, or makes, more than `most` bytes. Raises JobError."""
    header = file.read(_HEADER_BYTES)
    try:
        if header[:4] != b"PACK":
            raise ValueError("no pack")
        for _ in range(int.from_bytes(header[8:])):
            _check_object(file, most)
    except (ValueError, IndexError, zlib.error):
        raise JobError("The other host sent what is no git repository.") from None


def check_tree(repo: Repo, tree: ObjectID, most: int) -> None:
    """Require that the files of a tree, each counted as a block at least, come to no more than `most` bytes."""
    left, sizes, waiting = most, dict[ObjectID, int](), [tree]
    while waiting:
        found = repo[waiting.pop()]
        assert isinstance(found, Tree)
        for entry in found.iteritems():
            size = 0
            if stat.S_ISDIR(entry.mode):
                waiting.append(entry.sha)
            elif not S_ISGITLINK(entry.mode):
                if entry.sha not in sizes:
                    sizes[entry.sha] = len(repo.object_store.get_raw(entry.sha)[1])
                size = sizes[entry.sha]
            left -= max(size, _BLOCK)
            if left < 0:
                raise JobError(f"The checkout would have more than {most} bytes, the most one may have.")


def _check_object(file: BinaryIO, most: int) -> None:
    first = file.read(1)[0]
    kind, size, shift = (first >> 4) & 7, first & 15, 4
    while first & 128:
        first = file.read(1)[0]
        size |= (first & 127) << shift
        shift += 7
    if kind == _OFS_DELTA:
        while file.read(1)[0] & 128:
            pass
    elif kind == _REF_DELTA:
        file.read(_SHA_BYTES)
    _check_size(size, most)
    start = _unpacked(file, size)
    if kind in (_OFS_DELTA, _REF_DELTA):
        _, rest = _number(start)  # of what it is made from
        _check_size(_number(rest)[0], most)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise JobError(f"The repository has a file of {size} bytes, the most one may have are {most}.")


def _unpacked(file: BinaryIO, size: int) -> bytes:
    """Pass over one packed object that says it has `size` bytes, and return how it begins."""
    unpacker, start, passed = zlib.decompressobj(), b"", 0
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(_PART)
        if not packed:
            raise ValueError("it ends within an object")
        part = unpacker.decompress(packed, _PART)
        start = start or part[:32]
        passed += len(part)
        if passed > size:
            raise ValueError("an object is larger than it says")
    file.seek(-len(unpacker.unused_data), 1)
    return start


def _number(text: bytes) -> tuple[int, bytes]:
    """Read a number of a delta, seven bits a byte, and return it with what follows."""
    number = 0
    for index, byte in enumerate(text):
        number |= (byte & 127) << (7 * index)
        if byte < 128:
            return number, text[index + 1 :]
    raise ValueError("a delta ends within a number")


# What dulwich raises over bytes that are no repository's: its own errors, which share no ancestor, or some of Python's.
UNREADABLE: tuple[type[Exception], ...] = (
    *{
        member
        for name, module in sys.modules.items()
        for member in vars(module).values()
        if name.startswith("dulwich.")
        and isinstance(member, type)
        and issubclass(member, Exception)
        and member.__module__.startswith("dulwich.")
    },
    *(ValueError, LookupError, AssertionError, TypeError, AttributeError, ArithmeticError, EOFError),
    *(RecursionError, struct.error, zlib.error),
)

_HEADS, _TAGS, _REMOTE = b"refs/heads/", b"refs/tags/", b"refs/remotes/origin/"
_WHOLE = 2**31 - 1  # commits: what git itself sends for all of them
_OURS, _ASKED = b"rpcserver", b"asked"
_NOTE = "asked-"
_FORGOTTEN_S = 3600.0  # after which files that nobody asked for are deleted
_SHA = re.compile(r"[0-9a-f]{7,40}")


class _Client(HttpGitClient):
    """A client that counts every byte it is sent."""

    meter: Meter

    def _http_request(self, *arguments: Any, **options: Any) -> tuple[Any, Callable[[int], bytes]]:
        response, read = super()._http_request(*arguments, **options)

        def metered(*sizes: int) -> bytes:
            part = read(*sizes)
            self.meter.note(len(part))
            return part

        return response, metered


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is fetched from, and as whom."""

    url: str
    hosts: Hosts
    meter: Meter
    user: str = ""
    password: str = ""

    @contextmanager
    def client(self) -> Iterator[HttpGitClient]:
        """Give a client, and tell its failures in words that hold no credential."""
        pool = self.hosts.pool()
        client = _Client(
            self.url,
            pool_manager=pool,
            config=ConfigFile(),
            username=self.user or None,
            password=self.password or None,
        )
        client.meter = self.meter
        try:
            yield client
        except (NotGitRepository, HTTPUnauthorized):
            raise JobError("There is no git repository at that address, or it is not yours to read.") from None
        except (GitProtocolError, HTTPError, KeyError) as error:
            raise told(error) from None
        finally:
            pool.clear()


@dataclass(frozen=True, slots=True)
class Found:
    """A commit of a remote: under which full name it is known there (empty for a bare commit)."""

    name: bytes
    sha: ObjectID


class PlainRepo(Repo):
    """A repository that runs no hook and reads no configuration but its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.hooks.clear()

    def get_config_stack(self) -> StackedConfig:
        """Return the repository's own configuration alone."""
        own = self.get_config()
        return StackedConfig([own], writable=own)


def clone(remote: Remote, folder: Path, branch: str, depth: int | None) -> None:
    """Fetch a repository into a folder that is not there yet; one that fails leaves none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".new-{os.urandom(6).hex()}"
    try:
        PlainRepo.init(str(beside), mkdir=True, symlinks=False, default_branch=b"main").close()
        with opened(beside) as repo:
            config = repo.get_config()
            config.set((b"remote", b"origin"), b"url", remote.url.encode())
            config.set((b"remote", b"origin"), b"fetch", b"+refs/heads/*:refs/remotes/origin/*")
            config.set((_OURS,), _ASKED, branch.encode())
            config.write_to_path()
            found = _fetch(remote, repo, branch, depth)
            _point(repo, found)
            _write(repo, found.sha)
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def pull(remote: Remote, folder: Path) -> str:
    """Bring what is newest of what was cloned; refuses over local changes, and when both sides went on."""
    with opened(folder) as repo:
        if changed := changes(repo):
            raise JobError(f"{folder.name} has local changes, such as {changed[0]!r}: commit or reset them first.")
        old = repo.head()
        found = _fetch(remote, repo, _asked(repo), None)
        if found.sha != old:
            if not _is_behind(repo, old, found.sha):
                raise JobError(f"{folder.name} and its origin went different ways: reset it, or merge elsewhere.")
            _switch(repo, old, found)
        return found.sha.decode()


def reset(remote: Remote, folder: Path) -> str:
    """Make a checkout what its remote has of what was cloned; everything else goes."""
    with opened(folder) as repo:
        found = _fetch(remote, repo, _asked(repo), None)
        _point(repo, found)
        for entry in os.scandir(folder):
            if entry.name != ".git":
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        _write(repo, found.sha)
        return found.sha.decode()


def commit(folder: Path, message: str, author: str) -> str | None:
    """Commit everything that was changed and return the new commit, or None when nothing was."""
    with opened(folder) as repo:
        if not changes(repo):
            return None
        blobs: list[tuple[bytes, ObjectID, int]] = []
        for path, (mode, blob) in _work_tree(repo).items():
            repo.object_store.add_object(blob)
            blobs.append((path, blob.id, mode))
        blobs += [(path, sha, mode) for path, (mode, sha) in _tree(repo, repo.head()).items() if S_ISGITLINK(mode)]
        new = Commit()
        new.tree = commit_tree(repo.object_store, blobs)
        new.parents = [repo.head()]
        new.author = new.committer = author.encode()
        new.author_time = new.commit_time = int(time.time())
        new.author_timezone = new.commit_timezone = 0
        new.message = message.encode() + b"\n"
        repo.object_store.add_object(new)
        repo.refs[Ref(b"HEAD")] = new.id
        _write(repo, new.id)
        return new.id.decode()


def push(remote: Remote, folder: Path) -> str:
    """Send the branch's commits to the remote; refuses when the remote has others."""
    with opened(folder) as repo, remote.client() as client:
        if not _branch(repo):
            raise JobError(f"{folder.name} is a tag or a commit, to which nothing is sent: clone a branch.")
        name, head = Ref(_HEADS + _branch(repo).encode()), repo.head()

        def wanted(refs: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            theirs = refs.get(name)
            if theirs is not None and theirs != head and not _is_behind(repo, theirs, head):
                raise JobError(f"The origin of {folder.name} has other commits: pull first.")
            return {name: head}

        def pack(have: AbstractSet[ObjectID], want: AbstractSet[ObjectID], **_: Any) -> Any:
            return repo.generate_pack_data(set(have), set(want))

        result = client.send_pack(b"", wanted, pack)
        for refused in (result.ref_status or {}).values():
            if refused:
                raise JobError(f"The origin of {folder.name} refused: {refused[:200]}")
        return head.decode()


def bring(remote: Remote, folder: Path, branch: str) -> Path:
    """Have the files of a branch, tag or commit as they are now in a folder of their own, and return it.

    It is named by the commit and never changes: whoever reads it is disturbed by nobody.
    """
    with remote.client() as client:
        found = _named(*_refs(client), branch)
    if found is None or not (folder / found.sha.decode()).is_dir():
        beside = folder / f".new-{os.urandom(6).hex()}"
        clone(remote, beside, branch, 1)
        try:
            with opened(beside) as repo:
                found = Found(b"", repo.head())
            shutil.rmtree(beside / ".git")
            os.rename(beside, folder / found.sha.decode())
        except OSError:
            if found is None or not (folder / found.sha.decode()).is_dir():  # else another call has brought it, too
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder / found.sha.decode()


def note(folder: Path, key: str, files: Path, path: str) -> None:
    """Remember below `folder` what was brought for a key, and delete there what no key names and nobody has used."""
    beside = folder / f".new-{os.urandom(6).hex()}"
    beside.write_text(f"{files.name}\n{path}", "utf-8")
    beside.replace(folder / f"{_NOTE}{key}")
    named = {note.read_text("utf-8").partition("\n")[0] for note in folder.glob(f"{_NOTE}*")}
    for entry in os.scandir(folder):
        if entry.is_dir() and entry.name not in named and time.time() - entry.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(entry.path, ignore_errors=True)


def noted(folder: Path, key: str) -> tuple[Path, str] | None:
    """Return what was brought for a key, files and path inside, while it is there."""
    try:
        name, _, path = (folder / f"{_NOTE}{key}").read_text("utf-8").partition("\n")
        os.utime(folder / name)
    except FileNotFoundError:
        return None
    return folder / name, path


def origin(folder: Path) -> str:
    """Return the address a checkout was fetched from, empty when it has none."""
    with opened(folder) as repo:
        try:
            return repo.get_config().get((b"remote", b"origin"), b"url").decode()
        except KeyError:
            return ""


def status(folder: Path) -> dict[str, Any]:
    """Return a checkout's branch, commit, and the first of its local changes."""
    with opened(folder) as repo:
        return {"branch": _branch(repo), "commit": repo.head().decode(), "changes": changes(repo)[:20]}


@contextmanager
def opened(folder: Path) -> Iterator[PlainRepo]:
    """Open a checkout that lies in its folder with everything it has, whatever its configuration says."""
    control = folder / ".git"
    if not control.is_dir():
        raise JobError(f"There is no checkout {folder.name!r}: clone it first.")
    away = [control / "commondir", control / "objects" / "info" / "alternates"]
    if any(map(os.path.lexists, away)) or any(path.is_symlink() for path in (folder, control, *control.iterdir())):
        raise JobError(f"A part of the checkout {folder.name!r} lies elsewhere: clone it into another coderoot.")
    try:
        repo = PlainRepo(controldir=control, commondir=control, worktree=folder)
    except (NotGitRepository, FileFormatException, ValueError) as error:
        raise JobError(f"The checkout {folder.name!r} cannot be read: {type(error).__name__}.") from None
    with repo:
        yield repo


def changes(repo: PlainRepo) -> list[str]:
    """Return the paths that are not as they were committed."""
    committed = {path: entry for path, entry in _tree(repo, repo.head()).items() if not S_ISGITLINK(entry[0])}
    here = {path: (mode, blob.id) for path, (mode, blob) in _work_tree(repo).items()}
    return sorted(
        path.decode(errors="replace")
        for path in committed.keys() | here.keys()
        if committed.get(path) != here.get(path)
    )


def _fetch(remote: Remote, repo: PlainRepo, branch: str, depth: int | None) -> Found:
    with remote.client() as client:
        refs, default = _refs(client)
        found = _named(refs, default, branch)
        if found is None or found.sha not in repo.object_store:
            wants = [found.sha] if found else sorted(set(refs.values()))
            # A shallow checkout is made whole: servers do not agree on how to go on with a part.
            wanted = _WHOLE if depth is None and repo.get_shallow() else depth if found else None
            receive(client, repo, wants, wanted, remote.hosts.max_checkout_bytes)
    if found is None:
        matching = [sha for sha in repo.object_store if sha.startswith(branch.encode())]
        commits = [sha for sha in matching if isinstance(repo[sha], Commit)]
        if len(commits) != 1:
            raise JobError(f"The repository has no branch, tag or commit {branch!r}.")
        found = Found(b"", commits[0])
    commit_ = _commit_of(repo, found.sha)
    check_tree(repo, commit_.tree, remote.hosts.max_checkout_bytes)
    return Found(found.name, commit_.id)


def _refs(client: HttpGitClient) -> tuple[dict[Ref, ObjectID], bytes]:
    """Return what a remote has by its full names, and the name of its default branch, empty when it does not say."""
    listed = client.get_refs(b"")
    refs = {name: sha for name, sha in listed.refs.items() if sha is not None}
    return refs, listed.symrefs.get(Ref(b"HEAD"), Ref(b""))


def _named(refs: dict[Ref, ObjectID], default: bytes, branch: str) -> Found | None:
    """Return what a branch or tag stands for; None for what may be a commit."""
    if not branch:
        name = default or next((ref for ref in (b"refs/heads/main", b"refs/heads/master") if Ref(ref) in refs), b"")
        sha = refs.get(Ref(name)) or refs.get(Ref(b"HEAD"))
        if sha is None:
            raise JobError("The repository is empty.")
        return Found(name, sha)
    for prefix in (_HEADS, _TAGS):
        name = prefix + branch.encode()
        if Ref(name) in refs:
            return Found(name, refs[Ref(name)])
    if _SHA.fullmatch(branch):
        return None
    raise JobError(f"The repository has no branch, tag or commit {branch!r}.")


def longest_branch(remote: Remote, branch: str, path: str) -> tuple[str, str]:
    """Split `branch/path` where a branch or tag ends that is there: a name of one may hold a `/` itself."""
    with remote.client() as client:
        names = {
            name.split(b"/", 2)[2].decode(errors="replace")
            for name in client.get_refs(b"").refs
            if name.count(b"/") > 1
        }
    parts = [branch, *path.split("/")]
    for length in range(len(parts), 0, -1):
        if "/".join(parts[:length]) in names:
            return "/".join(parts[:length]), "/".join(parts[length:])
    return branch, path


def _point(repo: PlainRepo, found: Found) -> None:
    """Have HEAD name the branch, or the commit itself for a tag or a commit."""
    if found.name.startswith(_HEADS):
        repo.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(found.name))
        repo.refs[Ref(found.name)] = found.sha
        repo.refs[Ref(_REMOTE + found.name.removeprefix(_HEADS))] = found.sha
    else:
        repo.refs.remove_if_equals(Ref(b"HEAD"), None)
        repo.refs.add_if_new(Ref(b"HEAD"), found.sha)


def _switch(repo: PlainRepo, old: ObjectID, found: Found) -> None:
    before, after = _tree(repo, old), _tree(repo, found.sha)
    root = Path(repo.path)
    for path in after.keys() - before.keys():
        if os.path.lexists(root / os.fsdecode(path)):
            raise JobError(f"{os.fsdecode(path)!r} stands in the way: it is not committed.")
    for path in before.keys() - after.keys():
        (root / os.fsdecode(path)).unlink(missing_ok=True)
    _point(repo, found)
    _write(repo, found.sha)


def _write(repo: PlainRepo, sha: ObjectID) -> None:
    """Write the files of a commit, each by its bytes, and the index that says so."""
    commit_ = repo[sha]
    assert isinstance(commit_, Commit)
    build_index_from_tree(
        repo.path,
        repo.index_path(),
        repo.object_store,
        commit_.tree,
        validate_path_element=validate_path_element_ntfs,
        symlink_fn=_link_as_file,
    )


def _link_as_file(source: Any, target: Any, *_: Any, **__: Any) -> None:
    with open(target, "wb") as file:
        file.write(os.fsencode(source))


def _asked(repo: PlainRepo) -> str:
    """Return the branch, tag or commit that was cloned."""
    try:
        asked = repo.get_config().get((_OURS,), _ASKED).decode()
    except KeyError:
        asked = ""
    return asked or _branch(repo)


def _branch(repo: PlainRepo) -> str:
    names, _ = repo.refs.follow(Ref(b"HEAD"))
    name = names[-1] if names else b""
    return name.removeprefix(_HEADS).decode() if name.startswith(_HEADS) else ""


def _commit_of(repo: PlainRepo, sha: ObjectID) -> Commit:
    found = repo[sha]
    while isinstance(found, Tag):
        found = repo[found.object[1]]
    if not isinstance(found, Commit):
        raise JobError("That name is no commit.")
    return found


def _is_behind(repo: PlainRepo, old: ObjectID, new: ObjectID) -> bool:
    """Tell whether `new` came after `old`; what a shallow clone does not hold came before everything."""
    waiting, seen = [new], set()
    while waiting:
        sha = waiting.pop()
        if sha == old:
            return True
        if sha not in seen and sha in repo.object_store:
            seen.add(sha)
            found = repo[sha]
            waiting += found.parents if isinstance(found, Commit) else []
    return False


def _tree(repo: PlainRepo, sha: ObjectID) -> dict[bytes, tuple[int, ObjectID]]:
    found = repo[sha]
    assert isinstance(found, Commit)
    return {entry.path: (entry.mode, entry.sha) for entry in repo.object_store.iter_tree_contents(found.tree)}


def _work_tree(repo: PlainRepo) -> dict[bytes, tuple[int, Blob]]:
    """Read every file of the checkout; links are left alone, but a file git keeps for one is one."""
    links = {path for path, (mode, _) in _tree(repo, repo.head()).items() if stat.S_ISLNK(mode)}
    found: dict[bytes, tuple[int, Blob]] = {}
    for folder, names, files in os.walk(repo.path):
        names[:] = [name for name in names if name != ".git"]
        for name in files:
            full = Path(folder, name)
            if full.is_symlink() or not full.is_file():
                continue
            path = os.fsencode(full.relative_to(repo.path))
            mode = 0o100755 if full.stat().st_mode & stat.S_IXUSR else 0o100644
            found[path] = (stat.S_IFLNK if path in links else mode, Blob.from_string(full.read_bytes()))
    return found
