"""The budget of time that runs through a request."""

from __future__ import annotations

from fusiontrade.deadline import Deadline


def test_time_left_runs_down_and_is_never_negative() -> None:
    now = [100.0]
    deadline = Deadline.after(2.0, lambda: now[0])
    assert (deadline.remaining(), deadline.expired) == (2.0, False)
    now[0] = 101.5
    assert deadline.remaining() == 0.5
    now[0] = 107.0
    assert (deadline.remaining(), deadline.expired) == (0.0, True)


def test_a_step_gets_its_share_and_never_more_than_is_left() -> None:
    deadline = Deadline.after(2.0, lambda: 100.0)
    assert deadline.within(0.5).remaining() == 0.5
    assert deadline.within(9.0).remaining() == 2.0
