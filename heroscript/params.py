"""`Params`: the parameters, arguments and comments of one action."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from heroscript import grammar
from heroscript.errors import BadKey, MalformedParam, MalformedTime, MissingParam, TooLarge
from heroscript.filters import glob
from heroscript.grammar import BLANKS, KEY, ItemReader, comment_text, located, name_fix, normalised
from heroscript.ourtime import OurTime
from heroscript.reader import existing_path
from heroscript.writer import params_text

T = TypeVar("T")
_Getter = Callable[["Getters", str], T]
_DefaultGetter = Callable[["Getters", str, T], T]


def _plain(read: Callable[[str], T]) -> _Getter[T]:
    def get(self: "Getters", key: str) -> T:
        return self.read(key, read)

    return get


def _default(read: Callable[[str], T]) -> _DefaultGetter[T]:
    def get(self: "Getters", key: str, default: T) -> T:
        return self.read(key, read) if self.exists(key) else default

    return get


def _int(kind: str) -> Callable[[str], int]:
    return lambda text: grammar.integer(text, kind)


def _int_list(kind: str) -> Callable[[str], list[int]]:
    return lambda text: [grammar.integer(item, kind) for item in grammar.numbers(text)]


def _float_list(text: str) -> list[float]:
    return [grammar.floating(item) for item in grammar.numbers(text)]


def _fixed_list(text: str) -> list[str]:
    return [name_fix(item) for item in grammar.items(text)]


class Getters(ABC):
    """The getters over two things a subclass gives: `find_value(key)` and `args`."""

    __slots__ = ()
    args: tuple[str, ...]

    @abstractmethod
    def find_value(self, key: str) -> str | None:
        """Give the text under this key in any spelling, or None."""

    def read(self, key: str, read: Callable[[str], T]) -> T:
        """Apply `read` to the value of a key, naming the key, not the value, in the error.

        Raises:
            MissingParam, MalformedParam
        """
        text = self.find_value(key)
        if text is None:
            raise MissingParam(key)
        try:
            return read(text)
        except ValueError as error:
            raise MalformedParam(key, str(error)) from None

    def exists(self, key: str) -> bool:
        """Tell whether the key is there, in any spelling of it."""
        return self.find_value(key) is not None

    get = _plain(str.strip)
    get_default = _default(str.strip)
    get_int, get_int_default = _plain(_int("int")), _default(_int("int"))
    get_i8, get_i8_default = _plain(_int("i8")), _default(_int("i8"))
    get_i16, get_i16_default = _plain(_int("i16")), _default(_int("i16"))
    get_i32, get_i32_default = _plain(_int("i32")), _default(_int("i32"))
    get_i64, get_i64_default = _plain(_int("i64")), _default(_int("i64"))
    get_u8, get_u8_default = _plain(_int("u8")), _default(_int("u8"))
    get_u16, get_u16_default = _plain(_int("u16")), _default(_int("u16"))
    get_u32, get_u32_default = _plain(_int("u32")), _default(_int("u32"))
    get_u64, get_u64_default = _plain(_int("u64")), _default(_int("u64"))
    get_float, get_float_default = _plain(grammar.floating), _default(grammar.floating)
    get_f32, get_f32_default = _plain(grammar.floating), _default(grammar.floating)
    get_f64, get_f64_default = _plain(grammar.floating), _default(grammar.floating)
    get_list, get_list_default = _plain(grammar.items), _default(grammar.items)
    get_list_namefix, get_list_namefix_default = _plain(_fixed_list), _default(_fixed_list)
    get_list_int, get_list_int_default = _plain(_int_list("int")), _default(_int_list("int"))
    get_list_i8, get_list_i8_default = _plain(_int_list("i8")), _default(_int_list("i8"))
    get_list_i16, get_list_i16_default = _plain(_int_list("i16")), _default(_int_list("i16"))
    get_list_i32, get_list_i32_default = _plain(_int_list("i32")), _default(_int_list("i32"))
    get_list_i64, get_list_i64_default = _plain(_int_list("i64")), _default(_int_list("i64"))
    get_list_u8, get_list_u8_default = _plain(_int_list("u8")), _default(_int_list("u8"))
    get_list_u16, get_list_u16_default = _plain(_int_list("u16")), _default(_int_list("u16"))
    get_list_u32, get_list_u32_default = _plain(_int_list("u32")), _default(_int_list("u32"))
    get_list_u64, get_list_u64_default = _plain(_int_list("u64")), _default(_int_list("u64"))
    get_list_f32, get_list_f32_default = _plain(_float_list), _default(_float_list)
    get_list_f64, get_list_f64_default = _plain(_float_list), _default(_float_list)
    get_storagecapacity_in_bytes = _plain(grammar.size_bytes)
    get_storagecapacity_in_bytes_default = _default(grammar.size_bytes)
    get_storagecapacity_in_gigabytes = _plain(grammar.size_gigabytes)
    get_storagecapacity_in_gigabytes_default = _default(grammar.size_gigabytes)
    get_timestamp, get_timestamp_default = _plain(grammar.seconds_of_day), _default(grammar.seconds_of_day)
    get_percentage = _plain(grammar.percentage)
    get_email, get_email_default = _plain(grammar.email), _default(grammar.email)
    get_telnr, get_telnr_default = _plain(grammar.telephone), _default(grammar.telephone)

    def get_percentage_default(self, key: str, default: str) -> float:
        """Give the percentage as 0 to 1; the default is written as a percentage too: `17` is 0.17."""
        return self.get_percentage(key) if self.exists(key) else grammar.percentage(default)

    def get_default_true(self, key: str) -> bool:
        """Tell whether the value says yes; missing and empty count as yes, any other text as no."""
        text = self.find_value(key)
        return not text or grammar.is_true(text)

    def get_default_false(self, key: str) -> bool:
        """Tell whether the value says anything but no; missing and empty count as no."""
        text = self.find_value(key)
        return bool(text) and not grammar.is_false(text or "")

    def get_emails(self, key: str) -> list[str]:
        """Give a list of addresses in lower case."""
        return [grammar.email(item) for item in self.get_list(key)]

    def get_telnrs(self, key: str) -> list[str]:
        """Give a list of telephone numbers without `+`, `-` and blanks."""
        return [grammar.telephone(item) for item in self.get_list(key)]

    def get_time(self, key: str, now: OurTime | None = None) -> OurTime:
        """Give an absolute time, or a relative one counted from `now` (None: the present moment)."""
        try:
            return self.read(key, lambda text: OurTime.parse(text, now))
        except MalformedTime:
            raise MalformedParam(key, "is no time such as 2025-03-01 10:20 or +1h") from None

    def get_time_default(self, key: str, default: OurTime, now: OurTime | None = None) -> OurTime:
        """Give the time as `get_time` does, or the default when the key is missing."""
        return self.get_time(key, now) if self.exists(key) else default

    def get_path(self, key: str) -> Path:
        """Give the path of something that exists; a leading `~` is the user's home."""
        return self.read(key, existing_path)

    def get_path_create(self, key: str) -> Path:
        """Give the path of a folder, making it when it is missing."""
        return self.read(key, lambda text: existing_path(text, create=True))

    def get_from_hashmap(self, key: str, default: str, choices: Mapping[str, str]) -> str:
        """Give what the value stands for in `choices`, whose keys are comma-separated aliases.

        Raises:
            MalformedParam: the value (or the default, when the key is missing) is none of the aliases.
        """
        word = self.get_default(key, default).lower()
        for aliases, choice in choices.items():
            if word in grammar.items(aliases.lower()):
                return choice
        raise MalformedParam(key, f"is none of {', '.join(choices)}")

    def get_arg(self, number: int) -> str:
        """Give the positional argument, counted from 0."""
        if not 0 <= number < len(self.args):
            raise MissingParam(f"argument {number}")
        return self.args[number]

    def get_arg_default(self, number: int, default: str) -> str:
        """Give the positional argument, counted from 0, or the default."""
        return self.args[number] if 0 <= number < len(self.args) else default

    def get_arg_int(self, number: int) -> int:
        """Give the positional argument, counted from 0, as a number of 32 bits."""
        try:
            return grammar.integer(self.get_arg(number), "int")
        except ValueError as error:
            raise MalformedParam(f"argument {number}", str(error)) from None

    def get_arg_int_default(self, number: int, default: int) -> int:
        """Give the positional argument as a number of 32 bits, or the default when it is missing."""
        return self.get_arg_int(number) if 0 <= number < len(self.args) else default

    def check_arg_len(self, count: int) -> None:
        """Require exactly this many positional arguments."""
        if len(self.args) != count:
            raise MalformedParam("arguments", f"must be {count}, not {len(self.args)}")

    def exists_arg(self, arg: str) -> bool:
        """Tell whether this positional argument is given, in upper or lower case."""
        wanted = arg.strip().lower()
        return any(wanted == given.lower() for given in self.args)


_PLACE = re.compile(r"\{(\w+)\}")
_LINE_BREAK = re.compile(r"\r\n?|<<BR>>|<BR>|\\\\n")


class Params(Getters):
    """Keys with values in the order they were given, positional arguments, and the comments on both.

    A key is found in any spelling that `name_fix` makes equal. `repr` shows keys only: a value may be a password.
    Source: heroscript.md 4, 8.
    """

    __slots__ = ("_comments", "_odd", "_values", "arg_comments", "args")

    def __init__(
        self,
        values: dict[str, str] | None = None,
        args: Iterable[str] = (),
        comments: dict[str, str] | None = None,
        arg_comments: Iterable[str] = (),
    ) -> None:
        """Take over what an `ItemReader` has read; use `parse` or `set` for anything else."""
        self._values = {} if values is None else values
        self._comments = {} if comments is None else comments
        self._odd: dict[str, str] | None = None  # keys that are no fixed names, by what they would be; made when asked
        self.args = tuple(args)
        self.arg_comments = tuple(arg_comments)

    @classmethod
    def parse(cls, text: str, file: str = "") -> "Params":
        """Read parameters that stand alone, without an action before them.

        Raises:
            ParseError: with every mistake in the text.
        """
        body = normalised(text)
        # Every line is a body line here, so every line gets the indentation that makes it one.
        indented = " " + body.replace("\n", "\n ")
        reader = ItemReader(indented)
        end = reader.read(0)
        if indented[end:].strip(BLANKS):
            at = end + len(indented[end:]) - len(indented[end:].lstrip(BLANKS))
            reader.mistakes.append((at, f"illegal character {indented[at]!r}", indented[at]))
        if reader.mistakes:
            raise located(reader.mistakes, indented, text, file)
        return cls(reader.values, reader.args, reader.comments, reader.arg_comments)

    def find_value(self, key: str) -> str | None:
        """Give the text under this key in any spelling, or None."""
        stored = self._stored(key)
        return None if stored is None else self._values[stored]

    def comment(self, key: str) -> str:
        """Give the comment on a key; empty when there is none."""
        stored = self._stored(key)
        return "" if stored is None else self._comments.get(stored, "")

    def items(self) -> Iterator[tuple[str, str, str]]:
        """Yield key, value and comment, in order."""
        for key, value in self._values.items():
            yield key, value, self._comments.get(key, "")

    def get_map(self) -> dict[str, str]:
        """Give all keys and values as a new dictionary."""
        return dict(self._values)

    def get_params(self, key: str) -> "Params":
        """Read a value as parameters of its own.

        Raises:
            MissingParam, ParseError
        """
        return Params.parse(self.get(key))

    def set(self, key: str, value: str, comment: str = "") -> None:
        """Put a value under a key, replacing what any spelling of the key held; it becomes the last one.

        The value is stored as the parser would: trimmed, `<BR>` and two backslashes with `n` as line breaks.

        Raises:
            BadKey: nothing is left of the key when what cannot stand in one is dropped.
        """
        wanted = key.strip().lower()
        if not KEY.fullmatch(wanted) or wanted.startswith("//"):
            wanted = name_fix(wanted)
        if not KEY.fullmatch(wanted):
            raise BadKey(f"{key!r} cannot be the key of a parameter")
        self.delete(key)
        if self._odd is not None and (fixed := name_fix(wanted)) != wanted:
            self._odd.setdefault(fixed, wanted)
        self._values[wanted] = _LINE_BREAK.sub("\n", value).strip(BLANKS)
        said = "\n".join(comment_text("//" + line) for line in _LINE_BREAK.sub("\n", comment).split("\n"))
        if said:
            self._comments[wanted] = said

    def set_arg(self, arg: str) -> None:
        """Add a positional argument, unless it is there already."""
        stored = _LINE_BREAK.sub("\n", arg).strip(BLANKS)
        if stored not in self.args:
            self.args += (stored,)

    def delete(self, key: str) -> str | None:
        """Remove a key in any spelling; gives the value it had, or None."""
        stored = self._stored(key)
        if stored is None:
            return None
        if self._odd is not None and stored in self._odd.values():
            self._odd = None
        self._comments.pop(stored, None)
        return self._values.pop(stored)

    def merge(self, *others: "Params") -> None:
        """Take over everything of others; where several have a key, the last one wins."""
        args, comments = dict.fromkeys(self.args), list(self.arg_comments)
        for other in others:
            for key, value, comment in other.items():
                self.set(key, value, comment)
            args |= dict.fromkeys(other.args)
            comments += other.arg_comments
        self.args, self.arg_comments = tuple(args), tuple(comments)

    def add(self, text: str) -> None:
        """Merge parameters given as text.

        Raises:
            ParseError: nothing is added then.
        """
        self.merge(Params.parse(text))

    def replace(self, words: Mapping[str, str], max_growth: int | None = None) -> None:
        """Put words in the place of `{NAME}` in all values; a name that is not in `words` stays.

        Names are compared as `name_fix` makes them. Source: heroscript.md 8.

        Args:
            max_growth: how many characters longer all values may get together; None: any number.

        Raises:
            TooLarge: they would get longer; some may be replaced already.
        """
        fixed = {name_fix(name): word for name, word in words.items()}
        grown = 0
        for key, value in self._values.items():
            if "{" in value:
                if max_growth is not None:
                    grown += _growth(value, fixed)
                    if grown > max_growth:
                        raise TooLarge(
                            f"with its words in their places the parameter {key!r} would get longer by more than"
                            f" {max_growth} characters, the most allowed"
                        )
                filled = _PLACE.sub(lambda place: fixed.get(name_fix(place[1]), place[0]), value)
                self._values[key] = _LINE_BREAK.sub("\n", filled).strip(BLANKS)

    def places(self) -> frozenset[str]:
        """Give the names, as `name_fix` makes them, that stand as `{NAME}` in values."""
        return frozenset(name_fix(name) for value in self._values.values() for name in _PLACE.findall(value))

    def change_values(self, change: Callable[[str], str]) -> None:
        """Put `change(value)` in the place of every value."""
        for key, value in self._values.items():
            self._values[key] = change(value)

    def filter_match(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> bool:
        """Tell whether any of `include` matches (or there is none) and none of `exclude` does.

        An item is terms joined with `+`, all of which must hold: `key:value`, where the value may be a glob, or an
        argument, which may be one too. Source: heroscript.md 8.
        """
        if any(self._holds(item) for item in exclude):
            return False
        return not include or any(self._holds(item) for item in include)

    def heroscript(self) -> str:
        """Write the parameters so that `Params.parse` gives the same again."""
        return params_text(self.items(), self.args, self.arg_comments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Params):
            return NotImplemented
        return (
            list(self.items()) == list(other.items())
            and self.args == other.args
            and self.arg_comments == other.arg_comments
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params(keys={list(self._values)}, args={len(self.args)})"

    def _stored(self, key: str) -> str | None:
        """Find the spelling under which a key is stored. One normalisation for set, exists and get."""
        wanted = key.strip().lower()
        if wanted in self._values:
            return wanted
        fixed = name_fix(wanted)
        if fixed in self._values:
            return fixed
        if self._odd is None:
            self._odd = {}
            for stored in self._values:
                if (other := name_fix(stored)) != stored:
                    self._odd.setdefault(other, stored)
        return self._odd.get(fixed) if fixed else None

    def _holds(self, item: str) -> bool:
        for term in item.split("+"):
            key, colon, wanted = (part.strip() for part in term.partition(":"))
            if not colon:
                if not any(map(glob(key), self.args)):
                    return False
                continue
            value = self.find_value(key)
            if value is None or not glob(wanted)(value):
                return False
        return True


def _growth(value: str, words: Mapping[str, str]) -> int:
    """Return by how much replacing its words would lengthen a value; less than nothing where it would not."""
    places = ((found[0], words.get(name_fix(found[1]))) for found in _PLACE.finditer(value))
    return sum(len(word) - len(place) for place, word in places if word is not None)
