"""The grammar of parameters: from the text behind an action's name to keys, values, arguments and comments.

Sans-I/O and linear: every regular expression is possessive and stops where the action stops. The common item, a plain
`key:value`, is one match of `_PLAIN`; everything else goes through `_step`, which knows the whole grammar.

Source: heroscript.md 4. A quoted sentence stands over the line that obeys it.
"""

import math
import re
from collections.abc import Iterable
from functools import lru_cache

from heroscript.errors import Mistake, ParseError

_LINE_END = re.compile(r"\r\n?")
_LEADING_TAB = re.compile(r"^[ \t]*\t[ \t]*", re.MULTILINE)
_AT_COLUMN_0 = re.compile(r"^[^\s]", re.MULTILINE)
_INDENT = re.compile(r"^[ ]*+(?=[^ \n])", re.MULTILINE)


def normalised(text: str) -> str:
    r"""Give the text with `\n` as the only line end, no byte order mark, and blanks for tabs in front of lines."""
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    if "\t" in text:
        text = _LEADING_TAB.sub(lambda tabs: tabs[0].replace("\t", "    "), text)
    return text


def dedented(text: str) -> str:
    """Remove the indentation that all lines share. Source: heroscript.md 1.3."""
    if _AT_COLUMN_0.search(text):
        return text
    depth = min((found.end() - found.start() for found in _INDENT.finditer(text)), default=0)
    return re.sub(rf"^ {{{depth}}}", "", text, flags=re.MULTILINE) if depth else text


def located(found: Iterable[tuple[int, str, str]], read: str, given: str, file: str, first_line: int = 1) -> ParseError:
    """Turn offsets in the text that was read into lines and columns of the text that was given.

    The two differ only at the start of each line, so a column is counted from the end of its line.
    """
    lines = _LINE_END.sub("\n", given.removeprefix("\ufeff")).split("\n")
    mistakes = []
    line, counted, end = 0, 0, -1
    for at, message, piece in sorted(found):
        line += read.count("\n", counted, at)
        counted = at
        if at > end:
            end = read.find("\n", at) % (len(read) + 1)  # -1, no line end, becomes the end of the text
        column = len(lines[line]) - (end - at) + 1
        mistakes.append(Mistake(file, line + first_line, max(column, 1), message, piece))
    return ParseError(mistakes)


_KEPT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REPLACED = frozenset("-;:. ")


@lru_cache(maxsize=4096)
def name_fix(text: str) -> str:
    """Turn any text into a name of `a-z0-9_`, keeping the extension behind the last dot.

    Cuts at the first `#`; `- ; : .` and blanks become `_`; whatever else is not ASCII alphanumeric is dropped.
    Source: heroscript.md 7.
    """
    name = _ascii_lower(text.strip()).split("#", 1)[0]
    # An extension belongs to the last part of a path, and there is text on both sides of its dot.
    stem, _, extension = name.rpartition(".")
    if not extension or "/" in extension or stem[-1:] in ("", "/") or len(name.encode("utf-8", "surrogatepass")) < 3:
        return _underscored(name)
    return f"{_underscored(stem)}.{extension}"


def name_fix_no_underscore(text: str) -> str:
    """Give the fixed name with every `_` dropped. Source: heroscript.md 7."""
    return name_fix(text).replace("_", "")


def name_fix_no_ext(text: str) -> str:
    """Give the fixed name without its extension and the `_` in front of it. Source: as above."""
    stem, dot, whole = name_fix(text).rpartition(".")
    return (stem if dot else whole).rstrip("_")


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(ch.lower() if ch.isascii() else ch for ch in text)


def _underscored(stem: str) -> str:
    out: list[str] = []
    before = ""
    for char in stem:
        if char in _KEPT:
            out.append(char)
        elif char == "_" or char in _REPLACED:
            if before != "_":  # a `_` swallows the blank or mark behind it, and another `_`
                out.append("_")
        else:
            continue
        before = char
    return "".join(out)


_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,20})(KB|MB|GB)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{1,2}))?\s*([AP]M)?", re.ASCII)
_BYTES = {None: 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_TRUE = frozenset({"1", "true", "y", "yes", "t", "on", "enabled"})
_FALSE = frozenset({"0", "false", "n", "no", "f", "off", "disabled"})

RANGES = {
    "i8": (-(2**7), 2**7 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
}


def integer(text: str, kind: str) -> int:
    """Read a decimal number that fits `kind`, a key of `RANGES`."""
    low, high = RANGES[kind]
    stripped = text.strip()
    if not _INTEGER.fullmatch(stripped) or not low <= int(stripped) <= high:
        raise ValueError(f"is no {kind} number, {low} to {high}")
    return int(stripped)


def floating(text: str) -> float:
    """Read a decimal number; a `%` anywhere divides it by 100."""
    number = text.replace("%", "").strip()
    if not _FLOAT.fullmatch(number) or not math.isfinite(float(number)):
        raise ValueError("is no number")
    return float(number) / 100 if "%" in text else float(number)


def percentage(text: str) -> float:
    """Read 0 to 100, with or without a `%` before or behind it, as 0 to 1."""
    number = text.strip().removeprefix("%").removesuffix("%").strip()
    if not _FLOAT.fullmatch(number) or not 0 <= float(number) <= 100:
        raise ValueError("is no percentage, 0 to 100")
    return float(number) / 100


def is_true(text: str) -> bool:
    """Tell whether the text says yes, in any spelling."""
    return _word(text) in _TRUE


def is_false(text: str) -> bool:
    """Tell whether the text says no, in any spelling."""
    return _word(text) in _FALSE


def items(text: str) -> list[str]:
    """Split a list at its commas; brackets, quotes, blanks and empty items go."""
    return [item for item in _split(text) if item]


def numbers(text: str) -> list[str]:
    """Split a list of numbers at its commas; an empty item is kept, to be refused, unless the list is empty."""
    found = _split(text)
    return found if found != [""] else []


def size_bytes(text: str) -> int:
    """Read `10`, `10KB`, `5mb` or `1GB` as bytes; a unit is 1024 of the one before it."""
    number, unit = _size(text)
    return number * _BYTES[unit]


def size_gigabytes(text: str) -> int:
    """Read a size as gigabytes, rounded up; a plain number already is gigabytes."""
    number, unit = _size(text)
    return -(-number * _BYTES[unit or "GB"] // _BYTES["GB"])


def seconds_of_day(text: str) -> int:
    """Read `16:21`, `8PM` or `8:07 pm` as seconds since midnight; `24` is the end of the day."""
    match = _CLOCK.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError("is no time of the day")
    hours, minutes = int(match[1]), int(match[2] or 0)
    if minutes > 59 or hours > (12 if match[3] else 24) or (hours == 24 and minutes):
        raise ValueError("is no time of the day")
    if match[3]:
        hours = hours % 12 + (12 if match[3] == "PM" else 0)
    return hours * 3600 + minutes * 60


def telephone(text: str) -> str:
    """Keep a telephone number without `+`, `-` and blanks."""
    return re.sub(r"[+\s-]", "", text)


def email(text: str) -> str:
    """Give an address in lower case."""
    return text.strip().lower()


def _split(text: str) -> list[str]:
    return [item.strip().strip("'\"").strip() for item in text.strip(" []").split(",")]


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _size(text: str) -> tuple[int, str | None]:
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError("is no storage size such as 10, 64KB, 512MB or 10GB")
    return int(match[1]), match[2]


BLANKS = " \t\f\v\n\r"
MAX_MISTAKES = 10_000
KEY = re.compile(r"[A-Za-z0-9_.,/]++")

_B = r"[ \t\f\v]"
_W = r" \t\f\v\n"
_TOKEN_END = rf"(?=[{_W}]|\Z)"
_QUOTE = r"(?:'''|\"\"\"|'|\")"
_NO_ACTION = r"(?!!(?!\[))"  # at column 0: the next action begins
_GAP_TEXT = rf"{_B}*+(?:(\n)(?:{_B}*+\n)*+{_B}++(?!!))?+"
_GAP = re.compile(_GAP_TEXT)
_PLAIN = re.compile(
    rf"{_GAP_TEXT}(?!//)([A-Za-z0-9_.,/]++):{_B}*+"
    rf"(?:'([^'\\<\n]*+)'(?!['\"])|\"([^\"\\<\n]*+)\"(?!['\"])|(?!//)([^{_W}'\"\\<\[#,][^{_W}'\"\\<]*+)(?<!,){_TOKEN_END})"
    rf"(?!{_B}*+,)"
)
_KEY_COLON = re.compile(r"([A-Za-z0-9_.,/]++):")
_NEXT_KEY = re.compile(r"[A-Za-z0-9_.,/]++:(?!//)")
_BAD_KEY = re.compile(rf"[^{_W}:'\"]++:")
_ARG = re.compile(rf"[A-Za-z0-9_.,/]++{_TOKEN_END}")
_SKIP = re.compile(rf"[^{_W}]++")
_BLANK_RUN = re.compile(rf"{_B}*+")
_INLINE = {
    "'": re.compile(rf"'((?:[^'\\\n]++|\\'?|\n{_NO_ACTION})*+)'"),
    '"': re.compile(rf'"((?:[^"\\\n]++|\\"?|\n{_NO_ACTION})*+)"'),
    "'''": re.compile(rf"'''((?:[^'\n]++|'(?!'')|\n{_NO_ACTION})*+)'''"),
    '"""': re.compile(rf'"""((?:[^"\n]++|"(?!"")|\n{_NO_ACTION})*+)"""'),
}
_OPENING = re.compile(_QUOTE)
_BLOCK_OPENING = re.compile(rf"{_QUOTE}{_B}*+(?=\n|\Z)")
_BLOCK = re.compile(
    rf"{_QUOTE}{_B}*+\n((?:(?!{_B}*+{_QUOTE}{_B}*+(?:\n|\Z)){_NO_ACTION}[^\n]*+\n)*+){_B}*+{_QUOTE}{_B}*+(?=\n|\Z)"
)
_BRACKET_ITEM = rf"(?:'[^'\n]*+'|\"[^\"\n]*+\"|[^{_W},'\"\[\]]++)"
_BRACKET = re.compile(rf"\[{_B}*+(?:{_BRACKET_ITEM}(?:{_B}*+,{_B}*+{_BRACKET_ITEM})*+)?+{_B}*+\]{_TOKEN_END}")
_BRACKET_COMMA = re.compile(rf"('[^']*+'|\"[^\"]*+\")|{_B}*+,{_B}*+")
_WORD = re.compile(rf"[^{_W},]*+")
_COMMA = re.compile(rf"{_B}*+,")
_AFTER_COMMA = re.compile(rf"(?:{_B}++(?:(?://|#(?=[{_W}]))[^\n]*+)?|\n(?:{_B}*+\n)*+(?={_B}++[^!\n{_W}]))*+")
_LINE_COMMENT = re.compile(r"(//|#)([^\n]*+)")
_HTML_COMMENT = re.compile(rf"<!--((?:[^-\n]++|-(?!->)|\n{_NO_ACTION})*+)-->")
_COLUMN_0_COMMENTS = re.compile(rf"(?:{_B}*+\n)++(?=//)((?:{_B}*+(?://[^\n]*+)?\n)++)(?={_B}++[^!{_W}])")
_BELOW = re.compile(rf"\n(?:{_B}*+\n)*+({_B}++)(?![!'\"#]|//|<!--|[A-Za-z0-9_.,/]++:(?!//))([^\n]++)")
_TRAILING_COMMENT = re.compile(rf"{_B}++//([^\n]*+)")
_ESCAPE = re.compile(r"\\'|\\\\n|<<BR>>|<BR>")
_ESCAPE_DOUBLE = re.compile(r"\\['\"]|\\\\n|<<BR>>|<BR>")
_FOLD = re.compile(rf"{_B}*+\n[{_W}]*+")
_ITEM_INDENT = re.compile(r" *+(?=[^ \n])")
_FENCE = re.compile(rf"```|~~~|---++{_B}*+(?=\n|\Z)")
_NEXT_ACTION = re.compile(r"\n!(?!\[)")
_ARGUMENT = " "  # stands for "an argument" where a key could stand


class ItemReader:
    """Reads the items of one action after another out of one text.

    After `read`, `values` and `comments` hold what was read and are the caller's to keep; `args` and `arg_comments` are
    emptied by the next `read`.
    """

    __slots__ = ("_first", "_keys", "_pending", "_text", "arg_comments", "args", "comments", "mistakes", "values")

    def __init__(self, text: str) -> None:
        """Args: text: with `\\n` alone as line end and no tab in front of a line."""
        self._text = text
        self._keys: dict[str, str] = {}
        self.args: dict[str, None] = {}
        self.arg_comments: list[str] = []
        self.mistakes: list[tuple[int, str, str]] = []

    def read(self, pos: int) -> int:
        """Read items from `pos` to the end of the action's body, noting mistakes on the way.

        Returns:
            where the body ends: the end of the text, or a line end behind which it does not go on.
        """
        text, keys, match_plain = self._text, self._keys, _PLAIN.match
        values: dict[str, str] = {}
        comments: dict[str, str] = {}
        pending: list[str] = []
        self.values, self.comments, self._pending = values, comments, pending
        self.args.clear()
        self.arg_comments.clear()
        self._first = ""
        while True:
            match = match_plain(text, pos)
            if match is None:
                end = self._step(pos)
                if end < 0:
                    return -end - 1
                pos = end
                continue
            newline, raw, value = match.group(1, 2, match.lastindex or 0)
            key = keys.get(raw) or keys.setdefault(raw, raw.lower())
            if newline or not self._first:
                self._first = key
            # "Duplicate key: last value wins and moves to the end of the list."
            if key in values:
                self._forget(key)
            values[key] = value.strip(BLANKS)
            if pending:
                self._take_pending(key)
            pos = match.end()

    def _step(self, pos: int) -> int:
        """Read one item of any kind; gives the position behind it, or -1 - position at the end of the body."""
        text = self._text
        gap = _GAP.match(text, pos)
        assert gap is not None
        at = gap.end()
        if gap[1]:
            self._first = ""
        char = text[at : at + 1]
        if char in ("", "\n"):
            return self._end(at)
        # "A code fence line inside an action ends it", an indented one and a line across the page as well.
        if gap[1] and _FENCE.match(text, at):
            return -1 - gap.start(1)
        if char == "#" or text.startswith("//", at):
            return self._line_comment(at)
        if text.startswith("<!--", at):
            return self._html_comment(at)
        if char in "'\"":
            value, end = self._quoted(at)
            if value is not None:
                self._put_arg(value)
            return end
        key = _KEY_COLON.match(text, at)
        if key:
            return self._param(key[1].lower(), at, key.end())
        arg = _ARG.match(text, at)
        if arg:
            self._put_arg(arg[0])
            return arg.end()
        return self._illegal(at)

    def _end(self, at: int) -> int:
        # "a column-0 comment inside an action is a comment when indented params follow"
        found = _COLUMN_0_COMMENTS.match(self._text, at)
        if found is None:
            return -1 - at
        self._pending += [comment_text(line) for line in found[1].split("\n") if line.strip(BLANKS)]
        return found.end() - 1

    def _illegal(self, at: int) -> int:
        """Note a character that cannot stand here and pass over the item, with its value when it has one."""
        text = self._text
        good = KEY.match(text, at)
        wrong = good.end() if good else at
        if text[at] == ":":
            self.note(at, "a value without a key", ":")
        else:
            self.note(wrong, f"illegal character {text[wrong]!r}", text[at : wrong + 1][-40:])
        key = _BAD_KEY.match(text, at)
        if key:
            return self._param(None, at, key.end())
        skipped = _SKIP.match(text, at)
        assert skipped is not None
        return skipped.end()

    def _param(self, key: str | None, at: int, colon: int) -> int:
        """Read the value behind the colon; a key of None is a mistake already noted."""
        text = self._text
        blanks = _BLANK_RUN.match(text, colon)
        assert blanks is not None
        start = blanks.end()
        char = text[start : start + 1]
        comments: list[str] = []
        value: str | None
        if char in ("", "\n"):
            value, end = self._value_below(at, start, comments)
        elif start > colon and (
            text.startswith("//", start) or (char == "#" and text[start + 1 : start + 2] in BLANKS)
        ):
            value, end = "", start
        elif _BLOCK_OPENING.match(text, start):
            value, end = self._block(start)
        elif char == "[" and (bracket := _BRACKET.match(text, start)):
            value, end = decode(_BRACKET_COMMA.sub(lambda part: part[1] or ",", bracket[0])), bracket.end()
        else:
            value, end = self._list(start, comments)
        if key is not None and value is not None:
            self._put(key, value)
            for comment in comments:
                self._comment_on(key, comment)
        return end

    def _value_below(self, at: int, end: int, comments: list[str]) -> tuple[str | None, int]:
        """Read the value of a `key:` at the end of its line: the next lines, unless they begin with a `key:`."""
        text = self._text
        line = text.rfind("\n", 0, at) + 1
        depth = len(text[line:at]) - len(text[line:at].lstrip(BLANKS))
        lines: list[str] = []
        while (below := _BELOW.match(text, end)) and len(below[1]) > depth:
            content = _TRAILING_COMMENT.split(below[2], 1)
            lines.append(below[1] + content[0])
            comments += [comment_text("//" + part) for part in content[1:]]
            end = below.end()
        if lines:
            return decode("\n".join(dedent(lines))), end
        gap = _GAP.match(text, end)
        assert gap is not None
        start = gap.end()
        if not gap[1] or text[start : start + 1] in ("", "#") or text.startswith(("//", "<!--"), start):
            return "", end
        if _NEXT_KEY.match(text, start):
            return "", end
        return self._block(start) if _BLOCK_OPENING.match(text, start) else self._list(start, comments)

    def _block(self, start: int) -> tuple[str | None, int]:
        # "once a block is open every line is content until the closing line"
        block = _BLOCK.match(self._text, start)
        if block is None:
            return None, self._unterminated(start, "block")
        return decode("\n".join(dedent(block[1].split("\n")))), block.end()

    def _quoted(self, start: int) -> tuple[str | None, int]:
        text = self._text
        opening = _OPENING.match(text, start)
        assert opening is not None
        found = _INLINE[opening[0]].match(text, start)
        if found is None:
            return None, self._unterminated(start, "quote")
        # "Inline quoted text spanning lines is folded with single spaces."
        folded = _FOLD.sub(" ", found[1]) if "\n" in found[1] else found[1]
        return decode(folded, _ESCAPE_DOUBLE if text[start] == '"' else _ESCAPE), found.end()

    def _list(self, start: int, comments: list[str]) -> tuple[str | None, int]:
        """Read one value, or several with commas between them, as one text."""
        text, items = self._text, list[str]()
        while True:
            if text[start : start + 1] in ("'", '"'):
                item, end = self._quoted(start)
                if item is None:
                    return None, end
            else:
                word = _WORD.match(text, start)
                assert word is not None
                item, end = decode(word[0]), word.end()
            items.append(item)
            comma = _COMMA.match(text, end)
            if comma is None:
                break
            end = comma.end()
            after = _AFTER_COMMA.match(text, end)
            assert after is not None
            start = after.end()
            if text[start : start + 1] in ("", "\n") or (start > end and _NEXT_KEY.match(text, start)):
                items.append("")
                break
            comments += [comment_text(part[1] + part[2]) for part in _LINE_COMMENT.finditer(after[0])]
        return _joined(items), end

    def _line_comment(self, at: int) -> int:
        found = _LINE_COMMENT.match(self._text, at)
        assert found is not None
        self._comment(comment_text(found[0]))
        return found.end()

    def _html_comment(self, at: int) -> int:
        found = _HTML_COMMENT.match(self._text, at)
        if found is None:
            return self._unterminated(at, "comment", "<!--")
        for line in found[1].strip(BLANKS).split("\n"):
            self._comment(comment_text(line))
        return found.end()

    def _comment(self, comment: str) -> None:
        # "End-of-line comment attaches to the first item of that line; on a header line without params to the next"
        if not self._first:
            self._pending.append(comment)
        elif self._first != _ARGUMENT:
            self._comment_on(self._first, comment)
        elif comment:
            self.arg_comments.append(comment)

    def _comment_on(self, key: str, comment: str) -> None:
        before = self.comments.get(key)
        if before or comment:
            self.comments[key] = f"{before}\n{comment}" if before else comment

    def _put(self, key: str, value: str) -> None:
        self._first = self._first or key
        if key in self.values:
            self._forget(key)
        self.values[key] = value
        self._take_pending(key)

    def _put_arg(self, arg: str) -> None:
        self._first = self._first or _ARGUMENT
        self.args.setdefault(arg)
        comment = "\n".join(self._pending)
        self._pending.clear()
        if comment:
            self.arg_comments.append(comment)

    def _take_pending(self, key: str) -> None:
        comment = "\n".join(self._pending)
        self._pending.clear()
        if comment:
            self.comments[key] = comment

    def _forget(self, key: str) -> None:
        del self.values[key]
        self.comments.pop(key, None)

    def _unterminated(self, at: int, what: str, opening: str = "") -> int:
        """Note what is never closed; gives where the next action begins."""
        quote = _OPENING.match(self._text, at)
        self.note(at, f"the {what} that begins here is never closed", opening or (quote[0] if quote else ""))
        following = _NEXT_ACTION.search(self._text, at)
        return following.start() if following else len(self._text)

    def note(self, at: int, message: str, piece: str) -> None:
        """Keep a mistake, unless there are more than anybody will read."""
        if len(self.mistakes) < MAX_MISTAKES:
            self.mistakes.append((at, message, piece))


def comment_text(line: str) -> str:
    """Give what a comment says, without its marks."""
    stripped = line.strip(BLANKS)
    return (stripped.lstrip("# ") if stripped.startswith("#") else stripped).lstrip("/ ")


def decode(text: str, escapes: re.Pattern[str] = _ESCAPE) -> str:
    """Resolve the escapes of a value and trim it."""
    if "\\" in text or "<" in text:
        text = escapes.sub(lambda found: found[0][1] if found[0][1] in "'\"" else "\n", text)
    return text.strip(BLANKS)


def dedent(lines: list[str]) -> list[str]:
    """Remove the smallest indentation from all lines; lines of blanks become empty."""
    filled = [line for line in lines if line.strip(BLANKS)]
    depth = min((len(line) - len(line.lstrip(" ")) for line in filled), default=0)
    return [line[depth:] if line.strip(BLANKS) else "" for line in lines]


def _joined(items: list[str]) -> str:
    """Join the items of a list as they are stored; the last is empty when the list ends in a comma."""
    if len(items) == 1:
        return items[0]
    if not items[-1]:
        items.pop()
    # "Items with a blank are wrapped in double quotes in the stored value"
    return ",".join(f'"{item}"' if any(blank in item for blank in BLANKS) else item for item in items)
