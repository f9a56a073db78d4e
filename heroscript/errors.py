"""Everything `play` raises.

    PlayError
    ├── ParseError          a text is not heroscript; carries every mistake found in it
    ├── ParamError          a getter was asked for something the parameters do not hold
    │   ├── MissingParam
    │   └── MalformedParam
    ├── MalformedTime       a text is no time
    ├── MalformedUrl        a text is no git address
    ├── FindError           an action should be there once, or be done, and is not
    ├── TooLarge            a playbook has more actions or bytes than allowed
    ├── SourceError         a file, folder or address cannot be read
    │   └── IncludeError    ... and it was an include that asked for it
    └── StoreError          a key-value store refuses
        ├── SealingUnavailable
        ├── MissingKey
        ├── BadKey
        └── BadSecret

No message ever holds a parameter's value: it may be a password.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN = 100


class PlayError(Exception):
    """Any mistake in a text, a name or a value given to `play`."""

    code = "INVALID_PARAMS"
    kind = "BAD_SCRIPT"
    is_retryable = False


@dataclass(frozen=True, slots=True)
class Mistake:
    """One place where a text is not heroscript.

    `line` and `column` count from 1 in the text as given; `text` is the piece that is wrong, never a value.
    """

    file: str
    line: int
    column: int
    message: str
    text: str

    def __str__(self) -> str:
        return f"{self.file or '<text>'}:{self.line}:{self.column}: {self.message}: {self.text!r}"


class ParseError(PlayError):
    """The text is not heroscript; `mistakes` holds every mistake in it, in order. Nothing was added.

    Of one text the first 10,000 are kept; the message shows the first 100.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        shown = [str(mistake) for mistake in self.mistakes[:_SHOWN]]
        more = len(self.mistakes) - len(shown)
        super().__init__("\n".join([*shown, f"... and {more} more"] if more else shown))


class ParamError(PlayError):
    """A parameter cannot be given as asked."""

    kind = "BAD_PARAM"

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"parameter {key!r} {problem}")


class MissingParam(ParamError):
    """The parameter is not there and the getter has no default."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "is missing")


class MalformedParam(ParamError):
    """The parameter is there, but its value is not what the getter promises; a default does not help."""


class MalformedTime(PlayError):
    """The text is neither an absolute nor a relative time."""


class MalformedUrl(PlayError):
    """The text is not the address of a git repository."""


class FindError(PlayError):
    """A filter matches another number of actions than it must, or one that is not done."""


class TooLarge(PlayError):
    """A playbook has more actions, or its files more bytes, than the limits allow."""

    kind = "PLAYBOOK_TOO_LARGE"


class SourceError(PlayError):
    """A file, folder or address that should hold heroscript cannot be read."""

    code = "NOT_FOUND"
    kind = "SOURCE_UNREADABLE"


class IncludeError(SourceError):
    """An include cannot be followed; the message shows the chain of files that led to it."""


class StoreError(PlayError):
    """A key-value store cannot do what was asked."""

    code = "CONFLICT"
    kind = "KEYS_REFUSED"


class SealingUnavailable(StoreError):
    """Values cannot be sealed here: the extra `kvs` is not installed."""

    kind = "SEALING_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("sealed values, as secrets are, need the extra 'kvs': pip install 'rpcserver[kvs]'")


class MissingKey(StoreError):
    """There is no value under this key or id."""

    code = "NOT_FOUND"
    kind = "KEY_NOT_FOUND"


class BadKey(StoreError):
    """The text cannot be the name of a key or a store."""

    code = "INVALID_PARAMS"
    kind = "BAD_KEY"


class BadSecret(StoreError):
    """The secret is too short, or is not the one this store was made with."""

    code = "FORBIDDEN"
    kind = "BAD_SECRET"
