"""Key-value stores in files: one folder a store, one readable file a key. Source: heroscript.md 11.

    <root>/<store>/<key>     a line `{"id": 17}`, then the value; sealed when the store is encrypted
    <root>/<store>/=17       a value without a key
    <root>/<store>/+4f1c...  the value of a key too long for a file name; the line holds the key too
    <root>/.ids/17           where the value with this id lies; `.ids/next` is the id after the last one given
    <root>/.lock             held while something is changed, by any process
    <root>/.gone-4f1c...     a store that was deleted, until its files are removed

Every file is written beside its place, synced and renamed, so a reader sees the old value or the new one. Whatever is
made, renamed or removed is on the disk, its folder synced, before the call returns: a power cut brings nothing back.
What an interrupted call left behind, `sweep` removes. An error of the disk is the OSError it is.

Names are encoded before they become file names: none can leave its folder, begin with a dot or meet another's, not even
on a disk that takes upper for lower case. Key names are not sealed: whoever may read the folder sees them.
"""

import fcntl
import hashlib
import heapq
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from heroscript.errors import BadKey, BadSecret, MissingKey, SealingUnavailable, StoreError
from heroscript.grammar import name_fix

_MIN_SECRET = 4
_SALT_BYTES = 16
_NONCE_BYTES = 12
_CHECK = b"the secret of this store"


@dataclass(frozen=True, slots=True, repr=False)
class Seal:
    """Seals and opens values; the name of a value is sealed with it, so none can be put in another's place."""

    _cipher: Any
    salt: bytes

    @classmethod
    def make(cls, secret: str, salt: bytes | None = None) -> "Seal":
        """Derive the key of a store from its secret.

        Args:
            salt: of the store; None makes a new one.

        Raises:
            BadSecret: the secret has fewer than 4 characters.
            SealingUnavailable: the optional dependency is missing.

        Source: heroscript.md 11.
        """
        if len(secret) < _MIN_SECRET:
            raise BadSecret(f"the secret of a store has at least {_MIN_SECRET} characters")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
        except ImportError:
            raise SealingUnavailable from None
        used = os.urandom(_SALT_BYTES) if salt is None else salt
        key = Scrypt(salt=used, length=32, n=2**15, r=8, p=1).derive(secret.encode("utf-8", "surrogatepass"))
        return cls(AESGCM(key), used)

    def seal(self, name: str, value: bytes) -> bytes:
        """Give the nonce and the sealed value."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, value, name.encode())
        return nonce + sealed

    def open(self, name: str, sealed: bytes) -> bytes:
        """Give the value back.

        Raises:
            BadSecret: another secret or another name sealed it, or it was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            value: bytes = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise BadSecret("the value was not sealed with this secret, or was changed") from None
        return value

    def proof(self) -> bytes:
        """Give what a store keeps to recognise its secret."""
        return self.seal("", _CHECK)

    def check(self, proof: bytes) -> None:
        """Require that the same secret made `proof`.

        Raises:
            BadSecret
        """
        self.open("", proof)


_MAX_FILE_NAME_BYTES = 200
_MAX_KEY_CHARACTERS = 1000
_KEYS_AT_ONCE = 10_000
_FIXABLE = re.compile(r"[A-Za-z0-9_\-;:. ]*")
_META, _NEW, _GONE = ".meta", ".new-", ".gone-"


class Collection:
    """The stores under one folder, which share one count of ids."""

    def __init__(self, root: Path, *, is_durable: bool = True) -> None:
        """Use a folder, making it when it is missing.

        Args:
            is_durable: sync every file to the disk before it counts; without it a power cut may lose the last values.
        """
        self._root = root
        self._is_durable = is_durable
        self._make(root / ".ids")
        # What a killed process did last may be seen here, and not be on the disk yet.
        for folder in (root / ".ids", root):
            with self.syncing(folder):
                pass

    def db_create(self, name: str, *, secret: str | None = None) -> "Store":
        """Make a store, encrypted when a secret is given.

        Raises:
            StoreError: it exists.
            BadKey, BadSecret
        """
        folder = self._folder(name)
        seal = None if secret is None else Seal.make(secret)
        meta = {} if seal is None else {"salt": seal.salt.hex(), "proof": seal.proof().hex()}
        with self.locked():
            if (folder / _META).exists():
                raise StoreError(f"store {name!r} exists")
            self._make(folder)
            self.write(folder / _META, json.dumps({"name": name, "encrypted": seal is not None, **meta}).encode())
        return Store(self, folder, seal)

    def db_get(self, name: str, *, secret: str | None = None) -> "Store":
        """Open a store.

        Raises:
            MissingKey: there is none of this name.
            BadSecret: it is encrypted and this is not its secret.
        """
        folder = self._folder(name)
        try:
            meta = json.loads((folder / _META).read_bytes())
        except FileNotFoundError:
            raise MissingKey(f"there is no store {name!r}") from None
        with self.syncing(folder):
            pass  # as above
        if not meta["encrypted"]:
            return Store(self, folder, None)
        if secret is None:
            raise BadSecret(f"store {name!r} is encrypted")
        seal = Seal.make(secret, bytes.fromhex(meta["salt"]))
        seal.check(bytes.fromhex(meta["proof"]))
        return Store(self, folder, seal)

    def db_get_create(self, name: str, *, secret: str | None = None) -> "Store":
        """Open a store, making it when it is missing."""
        return self.db_get(name, secret=secret) if self.exists(name) else self.db_create(name, secret=secret)

    def exists(self, name: str) -> bool:
        """Tell whether there is a store of this name."""
        return (self._folder(name) / _META).exists()

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Give the names of the stores that begin with `prefix`, sorted."""
        found = (_key_of(entry.name) for entry in os.scandir(self._root) if entry.name[0] != ".")
        return tuple(sorted(filter(_beginning(prefix), found)))

    def delete(self, name: str) -> bool:
        """Remove a store with all its values; tells whether there was one. No secret is needed."""
        gone = self._root / f"{_GONE}{os.urandom(6).hex()}"
        with self.locked():
            if not self.exists(name):
                return False
            # One step, however many values there are: it is there with all of them, or it is not there.
            with self.syncing(self._root):
                self._folder(name).rename(gone)
        with suppress(OSError):  # it is gone; what is left of it is for the next sweep
            self._clear(gone)
        return True

    def destroy(self) -> None:
        """Remove all stores and the folder itself."""
        gone = self._root.with_name(f"{_GONE}{os.urandom(6).hex()}")
        with self.syncing(gone.parent):
            self._root.rename(gone)
        shutil.rmtree(gone)

    def sweep(self) -> None:
        """Remove what calls left behind that were interrupted by a kill or a power cut."""
        with self.locked():
            for folder in [Path(entry.path) for entry in os.scandir(self._root) if entry.is_dir()]:
                if folder.name.startswith(_GONE):
                    self._clear(folder)
                    continue
                names = os.listdir(folder)
                for name in names:
                    if name.startswith(_NEW):
                        (folder / name).unlink()
                if folder.name[0] != "." and all(name.startswith(_NEW) for name in names):
                    folder.rmdir()  # half made: without its `.meta` nobody could open it

    @property
    def is_unused(self) -> bool:
        """Tell whether there is nothing in it, and never was."""
        return not {*os.listdir(self._root)} - {".ids", ".lock"} and not os.listdir(self._root / ".ids")

    def _clear(self, gone: Path) -> None:
        """Remove the values of a store that is gone, and what leads to them."""
        for entry in os.scandir(gone):
            if entry.name[0] != "." and (number := _id_in(Path(entry.path))) is not None:
                self.pointer(number).unlink(missing_ok=True)
        shutil.rmtree(gone)

    def _make(self, folder: Path) -> None:
        """Make a folder, and those it lies in, each on the disk before anything comes into it."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        with self.syncing(folder.parent):
            folder.mkdir(exist_ok=True)

    def _folder(self, name: str) -> Path:
        folder = _file_name(_normal(name))
        if folder[0] == "+":
            raise BadKey(f"a name of {len(name)} characters is too long for a store")
        return self._root / folder

    @contextmanager
    def locked(self) -> "Iterator[None]":
        """Keep every other thread and process from changing anything in the collection."""
        with open(self._root / ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, path: Path, content: bytes) -> None:
        """Put a file in its place at once: written beside it, synced, renamed."""
        beside = path.with_name(f"{_NEW}{os.getpid()}-{os.urandom(6).hex()}")
        try:
            with self.syncing(path.parent):
                with open(beside, "xb") as file:
                    file.write(content)
                    file.flush()
                    if self._is_durable:
                        os.fsync(file.fileno())
                os.replace(beside, path)
        except OSError:
            with suppress(OSError):  # what went wrong is told, and the rest is for the next sweep
                beside.unlink()
            raise

    @contextmanager
    def syncing(self, folder: Path) -> Iterator[None]:
        """Have the disk know what is made, renamed and removed in a folder inside the block."""
        # Opened before anything is changed: that there is no descriptor left must not leave it half done.
        handle = os.open(folder, os.O_RDONLY)
        try:
            yield
            if self._is_durable:
                os.fsync(handle)
        finally:
            os.close(handle)

    def pointer(self, id: int) -> Path:
        """Give the file that says where the value with this id lies."""
        return self._root / ".ids" / str(int(id))

    def next_id(self) -> int:
        """Count one further; only while locked."""
        counter = self._root / ".ids" / "next"
        number = int(counter.read_bytes()) if counter.exists() else 1
        self.write(counter, str(number + 1).encode())
        return number


class Store:
    """One store: `get set exists delete keys destroy`, by key or by id.

    A key is compared as `name_fix` makes it; a key that `name_fix` would shorten counts as it is, in lower case.
    """

    def __init__(self, collection: Collection, folder: Path, seal: Seal | None) -> None:
        """Use `Collection.db_create` or `db_get`."""
        self._collection, self._folder, self._seal = collection, folder, seal

    def set(self, key: str | None, value: str | bytes, *, id: int | None = None) -> int:
        """Store a value under a key, over the value with an id, or under a new id alone.

        Returns:
            the id: new for a new key, the same when a key is overwritten.

        Raises:
            StoreError: key and id are given together, or the value is empty.
            MissingKey: there is no value with this id.
        """
        if key is not None and id is not None:
            raise StoreError("a value is stored under a key or an id, not both")
        try:
            content = value.encode() if isinstance(value, str) else value
        except UnicodeEncodeError:
            raise StoreError("the value is no text that UTF-8 can hold") from None
        if not content:
            raise StoreError("a value cannot be empty")
        with self._collection.locked():
            if key is not None:
                name = _file_name(_normal(key))
                head = self._head(name) or {"id": self._collection.next_id()}
                if name[0] == "+":
                    head["key"] = _normal(key)
            elif id is not None:
                name = self._name_of(id)
                head = self._head(name) or {"id": id}
            else:
                head = {"id": self._collection.next_id()}
                name = f"={head['id']}"
            self._write(name, head, content)
        return int(head["id"])

    def get(self, key: str | None = None, *, id: int | None = None) -> str:
        """Give a value as text.

        Raises:
            MissingKey: there is none.
            BadSecret: it was sealed with another secret, or changed.
        """
        return self.get_bytes(key, id=id).decode("utf-8", "replace")

    def get_bytes(self, key: str | None = None, *, id: int | None = None) -> bytes:
        """Give a value as it was stored; raises as `get` does."""
        name = self._asked(key, id)
        try:
            _, _, content = (self._folder / name).read_bytes().partition(b"\n")
        except FileNotFoundError:
            raise MissingKey(f"there is no value under {key if key is not None else id!r}") from None
        return content if self._seal is None else self._seal.open(f"{self._folder.name}/{name}", content)

    def exists(self, key: str | None = None, *, id: int | None = None) -> bool:
        """Tell whether there is a value under the key or id."""
        with suppress(MissingKey):
            return (self._folder / self._asked(key, id)).exists()
        return False

    def size(self, key: str) -> int | None:
        """Give the bytes that the value under a key takes, None when there is none."""
        try:
            return (self._folder / _file_name(_normal(key))).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, key: str | None = None, *, id: int | None = None) -> bool:
        """Remove a value, by key or by id, so that neither finds it; tells whether there was one."""
        with self._collection.locked(), suppress(MissingKey):
            name = self._asked(key, id)
            number = self._id_of(name)
            if number is not None:
                self._remove({name: number})
                return True
        return False

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted; with `after`, those behind that key only.

        Holds 10,000 keys at a time however many there are; keys set or deleted meanwhile may be seen or not.
        """
        last, begins = after, _beginning(prefix)
        while True:
            found = (self._key_at(name) for name in self._files() if name[0] != "=")
            page = heapq.nsmallest(
                _KEYS_AT_ONCE, (key for key in found if key is not None and key > last and begins(key))
            )
            yield from page
            if len(page) < _KEYS_AT_ONCE:
                return
            last = page[-1]

    def ids(self) -> list[int]:
        """Give the ids of all values in this store, sorted."""
        return sorted(number for name in self._files() if (number := self._id_of(name)) is not None)

    def empty(self) -> None:
        """Remove all values."""
        with self._collection.locked():
            self._remove({name: self._id_of(name) for name in self._files()})

    def destroy(self) -> None:
        """Remove the store with all its values."""
        self._collection.delete(_key_of(self._folder.name))

    def _remove(self, numbers: Mapping[str, int | None]) -> None:
        """Remove files, given with the ids in them, and what leads to them, which leads nowhere without them."""
        with self._collection.syncing(self._folder):
            for name in numbers:
                (self._folder / name).unlink(missing_ok=True)
        for number in numbers.values():
            if number is not None:
                self._collection.pointer(number).unlink(missing_ok=True)

    def _files(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name[0] != ".":
                    yield entry.name

    def _write(self, name: str, head: dict[str, Any], content: bytes) -> None:
        if not (self._folder / _META).exists():
            raise MissingKey(f"the store {_key_of(self._folder.name)!r} was removed")
        sealed = content if self._seal is None else self._seal.seal(f"{self._folder.name}/{name}", content)
        self._collection.write(self._folder / name, json.dumps(head).encode() + b"\n" + sealed)
        pointer = self._collection.pointer(head["id"])
        if not pointer.exists():
            self._collection.write(pointer, f"{self._folder.name}/{name}".encode())

    def _asked(self, key: str | None, id: int | None) -> str:
        if (key is None) == (id is None):
            raise StoreError("a value is found by a key or an id, one of them")
        return _file_name(_normal(key)) if key is not None else self._name_of(id or 0)

    def _name_of(self, id: int) -> str:
        try:
            folder, _, name = self._collection.pointer(id).read_text("utf-8").partition("/")
        except FileNotFoundError:
            raise MissingKey(f"there is no value with id {id}") from None
        if folder != self._folder.name:
            raise MissingKey(f"there is no value with id {id} in this store")
        return name

    def _id_of(self, name: str) -> int | None:
        head = self._head(name)
        return None if head is None else head["id"]

    def _key_at(self, name: str) -> str | None:
        if name[0] != "+":
            return _key_of(name)
        head = self._head(name)
        return None if head is None else str(head["key"])

    def _head(self, name: str) -> dict[str, Any] | None:
        """Read the first line of a value's file; None when there is no file."""
        return _head_of(self._folder / name)


def _head_of(path: Path) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            head = json.loads(file.readline())
        return {**head, "id": int(head["id"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"the file of {_key_of(path.name)!r} does not begin with its id") from None


def _id_in(path: Path) -> int | None:
    with suppress(StoreError):  # a file put there by hand
        head = _head_of(path)
        return None if head is None else head["id"]
    return None


def _normal(name: str) -> str:
    """Give the spelling under which a name is found: fixed when that loses nothing, else as it is in lower case."""
    plain = unicodedata.normalize("NFC", name.strip().lower())
    fixed = name_fix(plain) if _FIXABLE.fullmatch(plain) else plain
    if name_fix(fixed) != fixed:  # a run of marks, such as `a--b`: as it would be listed it would not be found
        fixed = plain
    if not fixed:
        raise BadKey(f"{name!r} cannot be a name here")
    return fixed


def _beginning(prefix: str) -> Callable[[str], bool]:
    """Give the test whether a key begins with the prefix."""
    # The last dot of a key is kept, the others are not: a prefix cannot know which of its dots is the last.
    wanted = _normal(prefix).replace(".", "_") if prefix else ""
    return lambda key: key.replace(".", "_").startswith(wanted)


def _file_name(key: str) -> str:
    try:
        encoded = "".join(char if _is_plain(char) else _percent(char) for char in key)
    except UnicodeEncodeError:
        raise BadKey(f"{key!r} cannot be a name here") from None
    if len(key) > _MAX_KEY_CHARACTERS:
        raise BadKey(f"a name of {len(key)} characters is too long, the most is {_MAX_KEY_CHARACTERS}")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded.encode()) > _MAX_FILE_NAME_BYTES:
        return "+" + hashlib.sha256(key.encode()).hexdigest()
    return encoded


def _is_plain(char: str) -> bool:
    # A letter that folds to another one, as the final sigma does, would meet it on a disk that ignores case.
    return char in "_-." or (char.isalnum() and char.casefold() == char)


def _key_of(file_name: str) -> str:
    # Some disks hand names back decomposed.
    return unicodedata.normalize("NFC", unquote(file_name))


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())
