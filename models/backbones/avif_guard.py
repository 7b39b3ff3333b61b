"""How many pixels an AVIF file's pictures have as coded, which its ``ispe`` box may lie about.

The decoder (libavif, dav1d) allocates what the AV1 sequence header says, and scales the result to
what ``ispe`` says: afterwards nothing shows. So the sequence headers are read here.

Boxes are looked for by their names, wherever these stand: whatever a file's boxes are nested in,
all that the decoder could find is found, and perhaps more. Sources: ISO/IEC 14496-12 (iloc, stbl),
ISO/IEC 23008-12 (idat), the AV1 specification, sections 5.3 and 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

_MOST_PARTS = 200_000  # boxes, extents and units together; a photograph has some dozens
_MOST_BYTES = 4  # times the file: its boxes and extents hardly overlap
_MOST_IDATS = 4
_SEQUENCE_HEADER = 1
_HEADER_BYTES = 1024  # a sequence header has less than half of them
_MOST_BYTES_OF_LENGTH = 8


class Unreadable(Exception):  # noqa: N818 -- turned into DamagedImage by the caller
    """The file holds no AV1 picture that can be found, or more parts than any picture has."""


def coded_sizes(data: bytes) -> list[tuple[int, int]]:
    """Width and height of each coded picture: the photograph or its tiles, alpha, thumbnails.

    Args:
        data: the whole file.
    Raises: Unreadable: there is none, or no end of them.
    """
    budget = _Budget(_MOST_PARTS, _MOST_BYTES * len(data))
    sizes = []
    for payload in (*_items(data, budget), *_first_samples(data, budget)):
        found = [size for unit in _headers(payload, budget) if (size := _size_in(unit))]
        if found:  # of one picture: several headers take turns
            sizes.append(max(found, key=lambda size: size[0] * size[1]))
    if not sizes:
        raise Unreadable("it holds no AV1 picture")
    return sizes


class _Budget:
    """What may still be looked at: a small file of many parts must not take minutes."""

    def __init__(self, parts: int, size: int) -> None:
        self._parts, self._bytes = parts, size

    def spend(self, size: int = 0) -> None:
        """One part, and bytes that are copied or searched for it."""
        self._parts -= 1
        self._bytes -= size
        if self._parts < 0 or self._bytes < 0:
            raise Unreadable("it has more parts than any picture")


def _found(
    data: bytes, name: bytes, budget: _Budget, start: int = 0, stop: int | None = None
) -> Iterator[int]:
    """Where the content of each box of a name begins."""
    stop = len(data) if stop is None else stop
    at = data.find(name, start, stop)
    while at >= 0:
        budget.spend()
        yield at + 4
        at = data.find(name, at + 4, stop)


def _items(data: bytes, budget: _Budget) -> Iterator[memoryview]:
    """The bytes of every item that an iloc box lists."""
    whole = memoryview(data)
    for at in _found(data, b"iloc", budget):
        for in_idat, extents in _extents(data, at, budget):
            # Offsets count from the file's start, or from that of the meta box's idat.
            for base in _idats(data, budget) if in_idat else [0]:
                parts = [
                    whole[base + start : base + start + size if size else None]
                    for start, size in extents
                ]
                if len(parts) == 1:
                    yield parts[0]
                else:
                    budget.spend(sum(map(len, parts)))
                    yield memoryview(b"".join(parts))


def _idats(data: bytes, budget: _Budget) -> list[int]:
    found = list(islice(_found(data, b"idat", budget), _MOST_IDATS + 1))
    if len(found) > _MOST_IDATS:
        raise Unreadable("it has more parts than any picture")
    return found


def _extents(data: bytes, at: int, budget: _Budget) -> Iterator[tuple[bool, list[tuple[int, int]]]]:
    """Of each item of an iloc: whether it lies in idat, and (offset, length) of its extents."""
    read = _Reader(data, at)
    version, _, widths = read.bytes(1), read.bytes(3), read.bytes(2)
    offset_size, length_size, base_size = widths >> 12, widths >> 8 & 15, widths >> 4 & 15
    index_size = widths & 15 if version in (1, 2) else 0
    long = 4 if version == 2 else 2
    for _ in range(read.bytes(long)):
        budget.spend()
        read.bytes(long)
        in_idat = version in (1, 2) and read.bytes(2) & 15 == 1
        read.bytes(2)
        base = read.bytes(base_size)
        extents = []
        for _ in range(read.bytes(2)):
            budget.spend()
            read.bytes(index_size)
            extents.append((base + read.bytes(offset_size), read.bytes(length_size)))
            if read.over:
                return
        if read.over:
            return
        if extents:
            yield in_idat, extents


def _first_samples(data: bytes, budget: _Budget) -> Iterator[memoryview]:
    """The first picture of every track of an animation: no further one is decoded."""
    for at in _found(data, b"stbl", budget):
        stop = min(at - 8 + int.from_bytes(data[at - 8 : at - 4], "big"), len(data))
        budget.spend(max(stop - at, 0))
        starts = [
            int.from_bytes(data[found + 8 : found + 8 + width], "big")
            for name, width in ((b"stco", 4), (b"co64", 8))
            for found in _found(data, name, budget, at, stop)
        ]
        sizes = [
            int.from_bytes(data[found + 4 : found + 8], "big")
            or int.from_bytes(data[found + 12 : found + 16], "big")
            for found in _found(data, b"stsz", budget, at, stop)
        ]
        for start, size in product(starts, sizes):
            budget.spend()
            yield memoryview(data)[start : start + size]


def _headers(data: memoryview, budget: _Budget) -> Iterator[bytes]:
    """The content of the sequence headers among a picture's units (OBUs).

    The bits that must be zero and the kinds that are reserved are passed over, as dav1d does.
    """
    at = 0
    while at < len(data):
        budget.spend()
        kind, extended, sized = data[at] >> 3 & 15, data[at] & 4, data[at] & 2
        at += 2 if extended else 1
        size = len(data) - at
        if sized:
            size = 0
            for byte in range(_MOST_BYTES_OF_LENGTH):
                if at >= len(data):
                    return
                size |= (data[at] & 0x7F) << 7 * byte
                at += 1
                if not data[at - 1] & 0x80:
                    break
        if kind == _SEQUENCE_HEADER:
            yield bytes(data[at : at + min(max(size, 0), _HEADER_BYTES)])
        at += size


def _size_in(unit: bytes) -> tuple[int, int] | None:
    """max_frame_width and max_frame_height of a sequence header; None where it is cut off."""
    read = _Reader(unit)
    read.bits(4)  # profile, still picture
    if read.bits(1):  # reduced header
        read.bits(5)
    else:
        _skip_timing_and_levels(read)
    bits = read.bits(4) + 1, read.bits(4) + 1
    width, height = read.bits(bits[0]) + 1, read.bits(bits[1]) + 1
    return None if read.over else (width, height)


def _skip_timing_and_levels(read: _Reader) -> None:
    delay_bits = 0
    if read.bits(1):  # timing
        read.bits(64)
        if read.bits(1):  # a number in Elias' gamma code
            zeros = 0
            while not read.bits(1) and not read.over:
                zeros += 1
            read.bits(zeros if zeros < 32 else 0)
        if read.bits(1):  # decoder model
            delay_bits = read.bits(5) + 1
            read.bits(42)
    display_delay = read.bits(1)
    for _ in range(read.bits(5) + 1):
        read.bits(12)
        if read.bits(5) > 7:
            read.bits(1)
        if delay_bits and read.bits(1):
            read.bits(2 * delay_bits + 1)
        if display_delay and read.bits(1):
            read.bits(4)


class _Reader:
    """Big-endian numbers, one after another; zeros behind the end.

    Attributes:
        over: the end was passed.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = 8 * at
        self.over = False

    def bytes(self, count: int) -> int:
        """A number of whole bytes; 0 of none."""
        return self.bits(8 * count)

    def bits(self, count: int) -> int:
        """A number of so many bits; 0 of none."""
        start, stop = self._at, self._at + count
        self._at = stop
        if stop > 8 * len(self._data):
            self.over = True
            return 0
        number = int.from_bytes(self._data[start // 8 : -(-stop // 8)], "big")
        return number >> -stop % 8 & (1 << count) - 1
