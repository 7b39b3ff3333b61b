from __future__ import annotations

from backend.labelstudio.host_patience import HostPatience


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_host_is_left_alone_and_tried_by_one_at_a_time() -> None:
    clock = Clock()
    patience = HostPatience(clock=clock)
    for _ in range(6):
        assert patience.may_ask("silent.test")
        patience.was_silent("silent.test")
    assert not patience.may_ask("silent.test")
    assert patience.may_ask("other.test")
    clock.now = 59.0
    assert not patience.may_ask("silent.test")
    clock.now = 61.0
    assert patience.may_ask("silent.test")
    assert not patience.may_ask("silent.test"), "the others wait for its answer"
    patience.was_silent("silent.test")
    clock.now = 61.0 + 119.0
    assert not patience.may_ask("silent.test"), "the pause doubles"
    clock.now = 61.0 + 121.0
    assert patience.may_ask("silent.test")
    patience.answered("silent.test")
    assert patience.may_ask("silent.test")
    assert patience.may_ask("silent.test")


def test_pauses_have_an_end() -> None:
    clock = Clock()
    patience = HostPatience(clock=clock)
    for _ in range(5000):
        patience.was_silent("silent.test")
    clock.now = 901.0
    assert patience.may_ask("silent.test")


def test_a_silence_now_and_then_is_forgiven() -> None:
    patience = HostPatience()
    for _ in range(30):
        patience.was_silent("busy.test")
        patience.was_silent("busy.test")
        patience.answered("busy.test")
    assert patience.may_ask("busy.test")
