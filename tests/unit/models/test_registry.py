from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import CorruptVersion
from models.registry import VersionCard, VersionRegistry


def _card(parent: str | None = None) -> VersionCard:
    return VersionCard(
        parent=parent,
        kind="rarefirst",
        snapshot_digest="abc",
        config={"scorer": "rarefirst"},
        metrics={"labels": 3.0},
        classes=("a", "b"),
        tail=("b",),
    )


def _write(text: str = "tensors") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "miner.safetensors").write_text(text)

    return write


@pytest.fixture
def registry(tmp_path: Path) -> VersionRegistry:
    return VersionRegistry(tmp_path / "versions", keep=3)


def _fill(registry: VersionRegistry, count: int) -> None:
    for number in range(count):
        registry.activate(registry.create(_write(f"tensors {number}"), _card()).name)


def test_an_empty_registry(registry: VersionRegistry) -> None:
    assert registry.active() is None
    assert registry.list() == ()
    assert registry.prune() == ()
    assert registry.problems == ()


def test_versions_are_numbered_and_active_by_the_pointer_only(registry: VersionRegistry) -> None:
    first = registry.create(_write(), _card())
    assert first.name == "v0001"
    assert registry.active() is None
    registry.activate("v0001")
    second = registry.create(_write("more"), _card("v0001"))
    active = registry.active()
    assert active is not None
    assert (active.name, active.card.classes) == ("v0001", ("a", "b"))
    assert [version.name for version in registry.list()] == ["v0001", second.name]
    assert active.card.libraries["torch"] != "unknown"
    assert active.path == first.path


def test_a_write_that_fails_leaves_nothing(registry: VersionRegistry) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        registry.create(fail, _card())
    assert list(registry.root.iterdir()) == []


@pytest.mark.parametrize("harm", ["changed", "gone", "card", "folder"])
def test_a_corrupt_version_is_skipped_and_the_one_before_used(
    registry: VersionRegistry, harm: str
) -> None:
    _fill(registry, 3)
    folder = registry.root / "v0003"
    assert (registry.active() or pytest.fail("no version")).name == "v0003"
    if harm == "changed":
        (folder / "miner.safetensors").write_text("tensorz 2 ")
    elif harm == "gone":
        (folder / "miner.safetensors").unlink()
    elif harm == "card":
        (folder / "version.json").write_text("{")
    else:
        folder.rename(registry.root.parent / "elsewhere")
    active = registry.active()
    assert active is not None
    assert active.name == "v0002"
    assert len(registry.problems) == 1
    assert "v0003" in registry.problems[0]
    if harm != "folder":
        with pytest.raises(CorruptVersion, match="delete the folder"):
            registry.activate("v0003")


def test_a_damaged_pointer_falls_back_to_the_newest(registry: VersionRegistry) -> None:
    _fill(registry, 2)
    (registry.root / "active").write_text("")
    assert (registry.active() or pytest.fail("no version")).name == "v0002"
    assert registry.problems


def test_numbers_are_not_used_again_while_folders_last(registry: VersionRegistry) -> None:
    _fill(registry, 5)
    assert registry.prune() == ("v0001", "v0002")
    assert registry.create(_write(), _card()).name == "v0006"


def test_pruning_spares_the_active_one(registry: VersionRegistry) -> None:
    _fill(registry, 5)
    registry.activate("v0001")
    assert registry.prune() == ("v0002", "v0003")
    assert [version.name for version in registry.list()] == ["v0001", "v0004", "v0005"]


def test_a_leftover_of_a_kill_is_no_version(registry: VersionRegistry) -> None:
    _fill(registry, 1)
    (registry.root / ".v0002.abc").mkdir()
    assert [version.name for version in registry.list()] == ["v0001"]
    assert registry.create(_write(), _card()).name == "v0002"


def test_pruning_spares_what_somebody_needs(registry: VersionRegistry) -> None:
    _fill(registry, 5)
    assert registry.prune(spare={"v0001"}) == ("v0002", "v0003")
    assert registry.names == ("v0001", "v0004", "v0005")


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(
    registry: VersionRegistry,
) -> None:
    _fill(registry, 3)
    registry.activate("v0001")
    registry.delete("v0003")
    assert registry.names == ("v0001", "v0002")
    assert [path.name for path in registry.root.iterdir() if path.name.startswith(".v")] == []
    again = VersionRegistry(registry.root)
    assert again.create(_write(), _card()).name == "v0004"
    with pytest.raises(CorruptVersion, match="expected one of v0001, v0002, v0004"):
        registry.delete("v0003")


def test_a_damaged_version_can_be_deleted(registry: VersionRegistry) -> None:
    _fill(registry, 2)
    (registry.root / "v0001" / "version.json").write_text("{")
    assert registry.names == ("v0001", "v0002")
    assert [version.name for version in registry.list()] == ["v0002"]
    registry.delete("v0001")
    assert registry.names == ("v0002",)
    assert registry.problems == ()


def test_what_a_killed_deletion_left_is_no_version_and_goes_with_the_next(
    registry: VersionRegistry,
) -> None:
    _fill(registry, 3)
    (registry.root / "v0002").rename(registry.root / ".v0002.deleted-1")
    assert registry.names == ("v0001", "v0003")
    registry.delete("v0001")
    assert not list(registry.root.glob(".v*"))
