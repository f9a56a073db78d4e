"""What a fetch comes to when it is unpacked: looked at before it is, as a few bytes can stand for more than fits.

A pack says of each object how large it is, a delta how large what it makes will be; a tree can name one file a billion
times over. Source: git's pack format (gitformat-pack).
"""

import stat
import zlib
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import BinaryIO

from dulwich.client import HttpGitClient
from dulwich.objects import S_ISGITLINK, ObjectID, Tree
from dulwich.repo import Repo

from jobs import JobError

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
