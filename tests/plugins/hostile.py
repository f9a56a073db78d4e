"""What a git server may answer that means harm, or is broken: its list of references, and its pack."""

import hashlib
import struct
import zlib
from collections.abc import Iterator

Object = tuple[int, bytes]
COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
FILE, FOLDER, LINK = b"100644", b"40000", b"120000"
HELLO = (BLOB, b"hi")
NOWHERE = b"1" * 40
CAPABILITIES = b"side-band-64k ofs-delta shallow no-progress symref=HEAD:refs/heads/main"


def sha(kind: int, content: bytes) -> bytes:
    """Return the name of an object."""
    return hashlib.sha1(b"%s %d\0" % (NAMES[kind], len(content)) + content).hexdigest().encode()  # noqa: S324 (git's)


def line(content: bytes) -> bytes:
    """Return a line as git sends it."""
    return b"%04x" % (len(content) + 4) + content


def entry(mode: bytes, name: bytes, of: bytes) -> bytes:
    """Return an entry of a tree."""
    return mode + b" " + name + b"\0" + bytes.fromhex(of.decode())


def commit(tree: bytes, more: bytes = b"") -> Object:
    """Return a commit of a tree."""
    people = b"author A <a@a> 1 +0000\ncommitter A <a@a> 1 +0000\n\nm\n"
    return COMMIT, b"tree " + tree + b"\n" + more + people


def head(kind: int, size: int) -> bytes:
    """Return how an object in a pack begins."""
    first, rest, written = (kind << 4) | (size & 15), size >> 4, b""
    while rest:
        written += bytes([first | 128])
        first, rest = rest & 127, rest >> 7
    return written + bytes([first])


def pack(*objects: Object, more: bytes = b"", count: int | None = None, version: int = 2) -> bytes:
    """Return a pack of objects, with `more` behind them."""
    written = b"PACK" + struct.pack(">II", version, len(objects) if count is None else count)
    for kind, content in objects:
        written += head(kind, len(content)) + zlib.compress(content)
    written += more
    return written + hashlib.sha1(written).digest()  # noqa: S324 (git's)


def listed(*refs: tuple[bytes, bytes], capabilities: bytes = CAPABILITIES) -> bytes:
    """Return the list of references, each a name and what it is for."""
    written = line(b"# service=git-upload-pack\n") + b"0000"
    for number, (name, of) in enumerate(refs):
        written += line(of + b" " + name + (b"" if number else b"\0" + capabilities) + b"\n")
    return written + b"0000"


def main(of: bytes, capabilities: bytes = CAPABILITIES) -> bytes:
    """Return the list of a repository with one branch."""
    return listed((b"HEAD", of), (b"refs/heads/main", of), capabilities=capabilities)


def sent(content: bytes, channel: int = 1, before: bytes = b"0008NAK\n") -> bytes:
    """Return a pack as it is sent."""
    parts = (content[at : at + 60_000] for at in range(0, len(content), 60_000))
    return before + b"".join(line(bytes([channel]) + part) for part in parts) + b"0000"


GOOD_TREE = (TREE, entry(FILE, b"a.hero", sha(*HELLO)))
GOOD = commit(sha(*GOOD_TREE))
GOOD_OBJECTS = (GOOD, GOOD_TREE, HELLO)
GOOD_LIST, GOOD_PACK = main(sha(*GOOD)), sent(pack(*GOOD_OBJECTS))


def repositories() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield what it is, the list of references, and what is sent for them."""
    yield "good", GOOD_LIST, GOOD_PACK
    for name, tree, more in _trees():
        new = commit(sha(TREE, tree))
        yield f"tree: {name}", main(sha(*new)), sent(pack(new, (TREE, tree), HELLO, *more))
    for name, first in _heads():
        yield f"head: {name}", main(sha(*first)), sent(pack(first, GOOD_TREE, HELLO))
    for name, content in _packs():
        yield f"pack: {name}", GOOD_LIST, sent(content)
    for name, answer in _lists():
        yield f"list: {name}", answer, GOOD_PACK
    for name, answer in _answers():
        yield f"answer: {name}", GOOD_LIST, answer


def _trees() -> Iterator[tuple[str, bytes, tuple[Object, ...]]]:
    blob, inner = sha(*HELLO), (TREE, entry(FILE, b"x", sha(*HELLO)))
    for mode in (b"0", b"777777", b"abc", b"", b"-1", b"160000", LINK, b"040000", b"9" * 30, b"100644 x"):
        yield f"mode {mode!r}", entry(mode, b"a", blob), ()
    for name in (b"", b".", b"..", b"a/b", b"../x", b".git", b".GIT", b"git~1", b".git ", b"\xff", b"a\nb", b"x" * 300):
        yield f"name {name[:9]!r}", entry(FILE, name, blob), ()
        yield f"folder {name[:9]!r}", entry(FOLDER, name, sha(*inner)), (inner,)
    yield "cut", entry(FILE, b"a", blob)[:-5], ()
    yield "no end of a name", b"100644 a", ()
    yield "no file", entry(FILE, b"a", NOWHERE), ()
    yield "no folder", entry(FOLDER, b"a", NOWHERE), ()
    yield "a folder that is a file", entry(FOLDER, b"a", blob), ()
    yield "a file that is a folder", entry(FILE, b"a", sha(*inner)), (inner,)
    yield "twice", entry(FILE, b"a", blob) * 2, ()
    yield "link, then folder", entry(LINK, b"a", blob) + entry(FOLDER, b"a", sha(*inner)), (inner,)
    deep = [inner]
    for _ in range(3000):
        deep.append((TREE, entry(FOLDER, b"d", sha(*deep[-1]))))
    yield "deep", deep[-1][1], tuple(deep[:-1])


def _heads() -> Iterator[tuple[str, Object]]:
    tree = sha(*GOOD_TREE)
    people = b"author A <a> xx +0000\ncommitter A <a> 99999999999999999999999 +9999\n\n"
    yield "no tree", commit(NOWHERE)
    yield "a file as tree", commit(sha(*HELLO))
    yield "a bad tree", commit(b"zz")
    yield "a bad parent", commit(tree, b"parent nope\n")
    yield "no parent", commit(tree, b"parent " + NOWHERE + b"\n")
    yield "a bad time", (COMMIT, b"tree " + tree + b"\n" + people)
    yield "nobody", (COMMIT, b"tree " + tree + b"\n\nx")
    yield "no commit", (COMMIT, b"hello")
    yield "empty", (COMMIT, b"")
    yield "a file", HELLO
    yield "a folder", GOOD_TREE
    for of, kind in ((NOWHERE, b"commit"), (sha(*HELLO), b"blob"), (sha(*HELLO), b"commit"), (tree, b"nope")):
        yield f"a tag of {of[:4]!r}, {kind!r}", (TAG, b"object " + of + b"\ntype " + kind + b"\ntag v\n\n")
    yield "an empty tag", (TAG, b"")
    yield "no tag", (TAG, b"xx")


def _packs() -> Iterator[tuple[str, bytes]]:
    good = pack(*GOOD_OBJECTS)
    base = bytes.fromhex(sha(*HELLO).decode())
    yield "a bad sum", good[:-20] + b"x" * 20
    yield "cut", good[:-30]
    yield "another version", pack(*GOOD_OBJECTS, version=9)
    yield "more than it says", pack(*GOOD_OBJECTS, count=1)
    yield "less than it says", pack(*GOOD_OBJECTS, count=9)
    yield "a great many", b"PACK" + struct.pack(">II", 2, 2**32 - 1)
    yield "none", b""
    yield "of nothing", pack()
    yield "of others", pack((BLOB, b"other"))
    yield "something behind", good + b"x" * 50
    yield "no pack", b"junk" * 50
    for kind in (0, 5):
        yield f"kind {kind}", pack(*GOOD_OBJECTS, more=head(kind, 1) + zlib.compress(b"x"), count=4)
    yield "not packed", pack(*GOOD_OBJECTS, more=head(BLOB, 5) + b"nothing", count=4)
    copy = b"\2\2\x90\2"  # of two bytes, two bytes: the first two
    deltas = {
        "good": copy,
        "bad": b"\2\2\0",
        "too long": b"\2\5\x91\5\5",
        "of another size": b"\x09\2\x90\2",
        "empty": b"",
    }
    for name, delta in deltas.items():
        more = head(REF_DELTA, len(delta)) + base + zlib.compress(delta)
        yield f"a delta: {name}", pack(*GOOD_OBJECTS, more=more, count=4)
    more = head(REF_DELTA, len(copy)) + b"\1" * 20 + zlib.compress(copy)
    yield "a delta of what is not there", pack(*GOOD_OBJECTS, more=more, count=4)
    for distance in (b"\0", b"\3", b"\xff\xff\x7f"):
        more = head(OFS_DELTA, len(copy)) + distance + zlib.compress(copy)
        yield f"a delta of what lies {distance!r} before", pack(*GOOD_OBJECTS, more=more, count=4)


def _lists() -> Iterator[tuple[str, bytes]]:
    good = sha(*GOOD)
    begin = line(b"# service=git-upload-pack\n") + b"0000"
    for of in (b"z" * 40, b"12", b"1" * 64, b"", b"0" * 40):
        yield f"an id {of[:4]!r}", main(of)
    for name in (b"../../x", b"main.lock", b"a\nb", b"\xff", b"", b"x" * 3000):
        full = b"refs/heads/" + name
        capabilities = b"side-band-64k shallow symref=HEAD:" + full
        yield f"a branch {name[:9]!r}", listed((b"HEAD", good), (full, good), capabilities=capabilities)
    for capabilities in (b"", b"object-format=sha256", b"side-band-64k symref=HEAD", b"side-band-64k symref=HEAD:HEAD"):
        yield f"capabilities {capabilities!r}", main(good, capabilities)
    yield "none", listed()
    yield "no name", listed((b"", good))
    yield "twice", listed((b"HEAD", good), (b"refs/heads/main", good), (b"refs/heads/main", sha(*HELLO)))
    for content in (
        b"",
        b"zzzz",
        b"<html>hello</html>",
        line(b"# service=git-receive-pack\n") + b"0000",
        begin + b"0003",
    ):
        yield f"{content[:9]!r}", content
    yield "cut", GOOD_LIST[:-4]
    yield "shorter than it says", begin + b"ffffx"
    yield "an error", begin + line(b"ERR no such \x1b[31m thing")
    for version in (b"1", b"2"):
        yield f"version {version!r}", begin + line(b"version " + version + b"\n") + b"0000"


def _answers() -> Iterator[tuple[str, bytes]]:
    content = pack(*GOOD_OBJECTS)
    for channel in (2, 3, 9):
        yield f"channel {channel}", sent(b"fatal: \xff\x1b[31m", channel)
    for before in (b"ACK\n", b"ERR gone", b"shallow nope\n", b"unshallow " + NOWHERE):
        yield f"{before!r}", line(before) + GOOD_PACK
    yield "nothing before", sent(content, before=b"")
    yield "only that it begins", b"0008NAK\n"
    yield "no end", GOOD_PACK[:-4]
    yield "without lines", b"0008NAK\n" + content
    for answer in (b"", b"zzzz", b"<html>"):
        yield f"{answer!r}", answer
