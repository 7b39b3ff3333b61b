from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.sifar import cnn
from benchmarks.sifar.cnn import CnnKey, save_state
from benchmarks.sifar.pictures import CLASSES, PER_CLASS
from benchmarks.sifar.split import LABELS, NATURAL, Split, make_split, tail_of

TAIL = tail_of("cat,truck")


def counts(rows: np.ndarray) -> list[int]:
    """Pictures of each class."""
    return np.bincount(rows // PER_CLASS, minlength=len(CLASSES)).tolist()


def all_rows(split: Split) -> np.ndarray:
    return np.concatenate([split.labeled, split.pool, split.test])


def test_counts_are_the_published_ones() -> None:
    split = make_split(TAIL, seed=3)
    cat, truck = TAIL
    assert len(split.labeled) == sum(LABELS) == 14_398
    assert [counts(split.labeled)[k] for k in (cat, truck)] == [4, 58]
    assert [n for k, n in enumerate(counts(split.labeled)) if k not in TAIL] == list(LABELS[2:])
    assert counts(split.pool) == [2400] * 10
    assert counts(split.test) == [570] * 10
    assert len(np.unique(all_rows(split))) == len(all_rows(split))


def test_the_natural_pool_is_as_skewed_as_the_labels() -> None:
    split = make_split(TAIL, seed=3, pool="natural")
    cat, truck = TAIL
    assert len(split.pool) == sum(NATURAL) == 17_023
    assert [counts(split.pool)[k] for k in (cat, truck)] == [5, 69]
    uniform = make_split(TAIL, seed=3)
    assert np.isin(split.pool, uniform.pool).all()
    assert (split.labeled == uniform.labeled).all()
    assert (split.test == uniform.test).all()


def test_seeds_change_the_labels_and_nothing_else() -> None:
    one, other, again = (make_split(TAIL, seed=seed) for seed in (0, 1, 0))
    assert (one.labeled == again.labeled).all()
    assert not np.array_equal(one.labeled, other.labeled)
    assert (one.pool == other.pool).all()
    assert (one.test == other.test).all()
    natural = [make_split(TAIL, seed=seed, pool="natural").pool for seed in (0, 1)]
    assert not np.array_equal(*natural)


@pytest.mark.parametrize("count", [0, 1, 4, 20, 58])
def test_labels_of_the_tail_can_be_chosen(count: int) -> None:
    split = make_split(TAIL, seed=5, tail_labels=count)
    assert [counts(split.labeled)[k] for k in TAIL] == [count, count]
    # More labels are added to the fewer; those of the other classes stay.
    more = make_split(TAIL, seed=5, tail_labels=58)
    assert np.isin(split.labeled, more.labeled).all()
    assert len(more.labeled) - len(split.labeled) == 2 * (58 - count)


def test_the_pool_does_not_depend_on_the_tail() -> None:
    pools = [make_split(tail_of(names), seed=0).pool for names in ("cat,truck", "deer,horse")]
    assert (pools[0] == pools[1]).all()


def test_the_rarer_class_comes_first() -> None:
    assert tail_of("truck,cat") == TAIL[::-1]
    with pytest.raises(ValueError, match="lorry"):
        tail_of("lorry,cat")


def test_a_blind_network_has_no_output_for_the_tail() -> None:
    key = CnnKey(TAIL, 1, blind=True)
    assert key.name == "cnn-cat-truck-1-blind"
    assert key.outputs == [k for k in range(10) if k not in TAIL]
    assert CnnKey(TAIL, 1).outputs == list(range(10))


def test_a_checkpoint_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole = cnn.save_file

    def killed(state: Mapping[str, torch.Tensor], where: Path) -> None:
        whole(dict(state), where)
        where.write_bytes(where.read_bytes()[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(cnn, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"weight": torch.ones(40)})
    assert not path.exists()
    monkeypatch.setattr(cnn, "save_file", whole)
    save_state(path, {"weight": torch.ones(40)})
    assert load_file(path)["weight"].sum() == 40
