"""Whatever bytes come, reading an image gives a picture or an ImageError, nothing else."""

from __future__ import annotations

import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.backbones.images import as_rgb, open_image
from models.errors import ImageError
from models.image_kinds import kind_of
from tests.unit.models.image_files import noise, saved, turned

CAP = 1 << 20
SEEDS = (
    *(saved(noise(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")),
    *(saved(noise(), kind) for kind in ("JPEG2000", "PPM")),
    *(turned(noise(), 6, kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")),
    saved(noise(), "JPEG", progressive=True),
    saved(noise().convert("CMYK"), "JPEG"),
    saved(noise().convert("P"), "PNG", transparency=bytes(range(200))),
    saved(noise(), "MPO", save_all=True, append_images=[noise()]),
    saved(noise(), "GIF", save_all=True, append_images=[noise().rotate(180)]),
    *(saved(noise(), "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "packbits")),
)


def read(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            image = as_rgb(open_image(data, max_pixels=CAP), at_least_px=16)
        except ImageError as error:
            said = str(error)
        else:
            said = "a whole sentence at least"
            assert image.mode == "RGB"
            assert 0 < image.width * image.height <= CAP
    assert 10 < len(said) < 260


@given(
    file=st.sampled_from(SEEDS),
    head=st.booleans(),
    changes=st.lists(
        st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6
    ),
    cut=st.none() | st.floats(0, 1),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_files(
    file: bytes, head: bool, changes: list[tuple[float, bytes]], cut: float | None
) -> None:
    data = bytearray(file)
    reach = min(len(data), 400) if head else len(data)
    for where, what in changes:
        at = int(where * reach)
        data[at : at + len(what)] = what
    read(bytes(data if cut is None else data[: int(cut * len(data))]))


@given(
    start=st.sampled_from([file[:size] for file in SEEDS for size in (4, 12, 40)]),
    rest=st.binary(max_size=300),
)
@settings(max_examples=200, deadline=None)
def test_right_beginnings(start: bytes, rest: bytes) -> None:
    read(start + rest)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    assert kind_of(data).name
    read(data)
