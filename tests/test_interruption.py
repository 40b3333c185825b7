"""No Ctrl-C is lost."""

import copy
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rehead.runtime.errors import Interrupted
from rehead.runtime.interrupts import deepcopy, deferred, first_ctrl_c_only, interruptible


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def looking_once() -> None:
    with interruptible() as asked:
        assert not asked.is_set()
        press_ctrl_c()
        assert asked.is_set()


def stopping_by_itself() -> None:
    with interruptible():
        press_ctrl_c()
        raise Interrupted("by itself")


def pressing_twice() -> None:
    with interruptible():
        press_ctrl_c()
        press_ctrl_c()
        pytest.fail("goes on")


def failing(disturbed: bool) -> None:
    with deferred():
        if disturbed:
            press_ctrl_c()
        raise ValueError("damaged")


@pytest.mark.parametrize("block", [looking_once, pressing_twice], ids=lambda block: block.__name__)
def test_what_a_block_does_not_act_upon_is_raised(block: Callable[[], None]) -> None:
    with pytest.raises(KeyboardInterrupt):
        block()
    with pytest.raises(KeyboardInterrupt):  # as before the block
        press_ctrl_c()


def test_what_a_block_acts_upon_is_not_raised_again() -> None:
    with pytest.raises(Interrupted, match="by itself"):
        stopping_by_itself()


def test_error_that_came_of_it_is_not_taken_for_another() -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(disturbed=True)
    with pytest.raises(ValueError, match="damaged"):
        failing(disturbed=False)


class Pressing(type):
    """Ctrl-C comes where copyreg notes down what it found out of a class, and ignores what is raised."""

    def __setattr__(cls, name: str, value: Any) -> None:
        press_ctrl_c()


class Copied(metaclass=Pressing):
    def __init__(self) -> None:
        self.weights = [1.0, 2.0]


def test_copying_loses_none() -> None:
    assert copy.deepcopy(Copied()).weights == [1.0, 2.0]  # it was lost
    with pytest.raises(KeyboardInterrupt):
        deepcopy(Copied())
    known = [1.0]
    assert deepcopy({"a": known}, {id(known): known})["a"] is known


def acting_upon_it() -> None:
    with interruptible() as asked:
        press_ctrl_c()
        assert asked.is_set()
        raise Interrupted("the training ends")


def pressing_later() -> None:
    with interruptible():
        press_ctrl_c()
        pytest.fail("goes on")


def pressing_where_nothing_may_be_torn() -> None:
    with deferred():
        press_ctrl_c()
        acted_after.append(True)


acted_after: list[bool] = []


def test_command_acts_upon_the_first_only() -> None:
    for _ in range(2):  # each command anew
        with first_ctrl_c_only():
            with pytest.raises(Interrupted):
                acting_upon_it()
            for later in (pressing_later, pressing_where_nothing_may_be_torn):
                with pytest.raises(KeyboardInterrupt) as ended:
                    later()
                assert not isinstance(ended.value, Interrupted)
    assert acted_after == [True, True]


def test_trainings_outside_a_command_can_be_ended_each() -> None:
    for _ in range(2):
        with pytest.raises(Interrupted):
            acting_upon_it()
