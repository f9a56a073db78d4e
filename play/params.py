"""`Params`: the parameters, arguments and comments of one action."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from play.errors import BadKey, TooLarge
from play.filters import glob
from play.getters import Getters
from play.items import BLANKS, KEY, ItemReader, comment_text
from play.layout import params_text
from play.lines import located, normalised
from play.names import name_fix

_PLACE = re.compile(r"\{(\w+)\}")
_LINE_BREAK = re.compile(r"\r\n?|<<BR>>|<BR>|\\\\n")


class Params(Getters):
    """Keys with values in the order they were given, positional arguments, and the comments on both.

    A key is found in any spelling that `name_fix` makes equal. `repr` shows keys only: a value may be a password.
    Source: heroscript specification, sections 4 and 8.
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

        Names are compared as `name_fix` makes them. Source: heroscript specification, section 8.

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
        argument, which may be one too. Source: heroscript specification, section 8.
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
