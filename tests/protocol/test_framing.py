"""Where frames end: whatever the sizes and however the bytes come, no portion holds many frames or a part too much."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from rpcserver.transport.connection import MAX_BYTES, MAX_FRAMES, Cutter

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SIZES = st.lists(
    st.sampled_from([0, 1, 125, 126, 127, 1000, 65_535, 65_536, 70_000]) | st.integers(0, 300), max_size=80
)


def frames_of(sizes: list[int]) -> list[bytes]:
    """Return masked frames of these lengths."""
    return [Frame(Opcode.TEXT, b"x" * size).serialize(mask=True) for size in sizes]


def portions_of(chunks: list[bytes]) -> list[bytes]:
    """Cut what comes in chunks, as a connection does."""
    cutter, portions = Cutter(), []
    for chunk in chunks:
        while chunk:
            size = cutter.portion(chunk)
            assert 0 < size <= len(chunk)
            portions.append(chunk[:size])
            chunk = chunk[size:]
    return portions


@given(SIZES, st.lists(st.integers(1, 5000), max_size=60))
def test_portions_are_what_came(sizes: list[int], cuts: list[int]) -> None:
    """Nothing is lost or doubled, the head is a portion of its own, and frames end where they end."""
    frames = frames_of(sizes)
    data = HEAD + b"".join(frames)
    chunks, at = [], 0
    for cut in cuts:
        chunks.append(data[at : at + cut])
        at += cut
    chunks.append(data[at:])
    portions = portions_of([chunk for chunk in chunks if chunk])
    assert b"".join(portions) == data
    ends, at = {len(HEAD)}, len(HEAD)
    for frame in frames:
        at += len(frame)
        ends.add(at)
    begin = 0
    for portion in portions:
        end = begin + len(portion)
        within = sum(1 for one in ends if begin < one <= end)
        assert within <= MAX_FRAMES and len(portion) <= max(MAX_BYTES, len(HEAD))
        assert not (begin < len(HEAD) < end)
        begin = end


def test_a_read_of_small_frames_is_many_portions() -> None:
    """256 KiB of empty frames are more than a thousand portions of 32."""
    data = HEAD + b"".join(frames_of([0])) * (256 * 1024 // 6)
    portions = portions_of([data])
    assert max(len(portion) for portion in portions[1:]) == MAX_FRAMES * 6


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_any_bytes(data: bytes, step: int) -> None:
    """What is no WebSocket is cut as well, somewhere."""
    for begin in (b"", HEAD):
        whole = begin + data
        assert b"".join(portions_of([whole[at : at + step] for at in range(0, len(whole), step)])) == whole
