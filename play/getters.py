"""The typed getters of `Params`: text in, value or a located error out. Source: heroscript specification, section 8.

One rule for them all: a missing key is `MissingParam`, or the default where the getter has one; a value that is there
but malformed is `MalformedParam` in both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from play import values
from play.errors import MalformedParam, MalformedTime, MissingParam
from play.names import name_fix
from play.ourtime import OurTime
from play.sources import existing_path

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
    return lambda text: values.integer(text, kind)


def _int_list(kind: str) -> Callable[[str], list[int]]:
    return lambda text: [values.integer(item, kind) for item in values.numbers(text)]


def _float_list(text: str) -> list[float]:
    return [values.floating(item) for item in values.numbers(text)]


def _fixed_list(text: str) -> list[str]:
    return [name_fix(item) for item in values.items(text)]


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
    get_float, get_float_default = _plain(values.floating), _default(values.floating)
    get_f32, get_f32_default = _plain(values.floating), _default(values.floating)
    get_f64, get_f64_default = _plain(values.floating), _default(values.floating)
    get_list, get_list_default = _plain(values.items), _default(values.items)
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
    get_storagecapacity_in_bytes = _plain(values.size_bytes)
    get_storagecapacity_in_bytes_default = _default(values.size_bytes)
    get_storagecapacity_in_gigabytes = _plain(values.size_gigabytes)
    get_storagecapacity_in_gigabytes_default = _default(values.size_gigabytes)
    get_timestamp, get_timestamp_default = _plain(values.seconds_of_day), _default(values.seconds_of_day)
    get_percentage = _plain(values.percentage)
    get_email, get_email_default = _plain(values.email), _default(values.email)
    get_telnr, get_telnr_default = _plain(values.telephone), _default(values.telephone)

    def get_percentage_default(self, key: str, default: str) -> float:
        """Give the percentage as 0 to 1; the default is written as a percentage too: `17` is 0.17."""
        return self.get_percentage(key) if self.exists(key) else values.percentage(default)

    def get_default_true(self, key: str) -> bool:
        """Tell whether the value says yes; missing and empty count as yes, any other text as no."""
        text = self.find_value(key)
        return not text or values.is_true(text)

    def get_default_false(self, key: str) -> bool:
        """Tell whether the value says anything but no; missing and empty count as no."""
        text = self.find_value(key)
        return bool(text) and not values.is_false(text or "")

    def get_emails(self, key: str) -> list[str]:
        """Give a list of addresses in lower case."""
        return [values.email(item) for item in self.get_list(key)]

    def get_telnrs(self, key: str) -> list[str]:
        """Give a list of telephone numbers without `+`, `-` and blanks."""
        return [values.telephone(item) for item in self.get_list(key)]

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
            if word in values.items(aliases.lower()):
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
            return values.integer(self.get_arg(number), "int")
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
