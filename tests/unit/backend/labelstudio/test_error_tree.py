from __future__ import annotations

from collections.abc import Iterator

from backend import errors
from backend.errors import BackendError, UnsupportedLabelConfig


def tree(root: type[BackendError]) -> Iterator[type[BackendError]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


def test_every_error_has_a_code_of_its_own_and_a_status() -> None:
    found = list(tree(BackendError))
    assert len(found) > 10
    own = [kind.__dict__.get("code") for kind in found]
    assert None not in own
    assert len(set(own)) == len(own)
    assert all(400 <= kind.http_status < 600 for kind in found)


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = str(errors.__doc__)
    for kind in tree(BackendError):
        assert f" {kind.__name__}" in drawn, kind.__name__


def test_an_unsupported_config_names_both_sides() -> None:
    error = UnsupportedLabelConfig("no Image tag", found=(), supported=("Image + A", "Image + B"))
    assert str(error) == "no Image tag; tags found: none; supported: Image + A, or Image + B"
