"""Where frames end in the bytes that came, so that a few of them at a time are given to the protocol.

The protocol reads all it is given: a read of 256 KiB may hold forty thousand frames. Source: RFC 6455, 5.2.
"""

MAX_FRAMES = 32  # of a portion
MAX_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"


class Cutter:
    """Follows the bytes of one connection from its first: a request's head, then frames."""

    __slots__ = ("_begun", "_is_in_head", "_left")

    def __init__(self) -> None:
        self._is_in_head = True
        self._begun = b""  # of what is not whole yet: the end of the head, or the beginning of a frame
        self._left = 0  # bytes of the last frame that have not come

    def portion(self, data: bytes) -> int:
        """Return how many of the next bytes make up a portion: a request's head, or up to so many frames."""
        if self._is_in_head:
            return self._head(data)
        begun, size = self._begun, len(data)
        # Nearly always one frame, whole.
        if not begun and not self._left and 6 <= size < MAX_BYTES:
            short = data[1] & 0x7F
            if size == 6 + short or (short == 126 and size == 8 + (data[2] << 8 | data[3])):
                return size
        known = begun + data if begun else data
        size, frames, end = len(known), 0, self._left
        while end < size and end < MAX_BYTES and frames < MAX_FRAMES:
            whole = _length(known, end)
            if whole is None:
                self._begun, self._left = known[end:], 0
                return len(data)
            end += whole
            frames += 1
        self._begun = b""
        portion = min(end, size)
        if portion > MAX_BYTES:
            portion = MAX_BYTES
        self._left = end - portion
        return portion - len(begun)

    def _head(self, data: bytes) -> int:
        known = self._begun + data
        at = known.find(_HEAD_END)
        if at < 0:
            self._begun = known[-3:]
            return len(data)
        portion = at + len(_HEAD_END) - len(self._begun)
        self._is_in_head, self._begun = False, b""
        return portion


def _length(known: bytes, at: int) -> int | None:
    """Return the length of the frame that begins at a place, None when too little of it is known."""
    if len(known) < at + 2:
        return None
    short = known[at + 1] & 0x7F
    masked = 4 if known[at + 1] & 0x80 else 0
    if short < 126:
        return 2 + masked + short
    wide = 2 if short == 126 else 8
    if len(known) < at + 2 + wide:
        return None
    return 2 + wide + masked + int.from_bytes(known[at + 2 : at + 2 + wide], "big")
