from __future__ import annotations

import threading

import pytest

from fusiontrade.deadline import Deadline
from fusiontrade.errors import ProviderUnavailable, UnknownSymbol
from fusiontrade.market.breaker import BreakerState, CircuitBreaker
from fusiontrade.market.retry import AskedToWait, NothingSent, RetryPolicy, with_retries


class Watch:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def breaker(watch: Watch) -> CircuitBreaker:
    return CircuitBreaker("yahoo", threshold=3, open_seconds=30, clock=watch)


def fail(breaker: CircuitBreaker, times: int = 1, error: Exception | None = None, subject: str = "") -> None:
    for _ in range(times):
        with pytest.raises(Exception), breaker.call(subject):  # noqa: B017, PT011 - whichever error is handed in
            raise error or ProviderUnavailable("down", retry_after=1)


def test_the_circuit_opens_after_failures_in_a_row_and_refuses_at_once(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    asked = []
    with pytest.raises(AskedToWait, match="left alone for 30 s; last: down") as refused, breaker.call():
        asked.append(1)
    assert asked == []
    assert refused.value.retry_after == 30


def test_a_success_in_between_starts_the_count_anew(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    with breaker.call():
        pass
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_a_provider_that_says_no_such_symbol_is_well(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    fail(breaker, 10, UnknownSymbol("NOPE"))
    assert breaker.state is BreakerState.CLOSED


def test_one_subject_without_bars_counts_once_however_often_it_is_asked_about(breaker: CircuitBreaker) -> None:
    fail(breaker, 10, NothingSent("no bars of VFINX"), "VFINX")
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1, NothingSent("no bars of EURUSD=X"), "EURUSD=X")
    fail(breaker, 1, NothingSent("no bars of GC=F"), "GC=F")
    assert breaker.state is BreakerState.OPEN


def test_subjects_without_bars_are_forgotten_after_a_success(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        fail(breaker, 1, NothingSent("no bars of VFINX"), "VFINX")
        fail(breaker, 1, NothingSent("no bars of GC=F"), "GC=F")
        with breaker.call("EURUSD=X"):
            pass
    assert breaker.state is BreakerState.CLOSED


def test_a_call_that_fails_late_lets_no_second_one_try(breaker: CircuitBreaker, watch: Watch) -> None:
    late = breaker.call()
    late.__enter__()
    fail(breaker, 3)
    watch.at += 31
    with breaker.call():
        late.__exit__(ProviderUnavailable, ProviderUnavailable("late", retry_after=1), None)
        watch.at += 31
        with pytest.raises(AskedToWait), breaker.call():
            pass
    assert breaker.state is BreakerState.CLOSED


def test_after_the_pause_one_caller_tries_and_the_others_are_refused(breaker: CircuitBreaker, watch: Watch) -> None:
    fail(breaker, 3)
    watch.at += 31
    assert breaker.state is BreakerState.HALF_OPEN
    with breaker.call(), pytest.raises(ProviderUnavailable, match="left alone"), breaker.call():
        pass
    assert breaker.state is BreakerState.CLOSED


def test_a_failed_try_opens_the_circuit_again(breaker: CircuitBreaker, watch: Watch) -> None:
    fail(breaker, 3)
    watch.at += 31
    fail(breaker)
    assert breaker.state is BreakerState.OPEN
    watch.at += 31
    with breaker.call():
        pass
    assert breaker.state is BreakerState.CLOSED


def test_an_interrupted_try_leaves_the_next_one_free_to_try(breaker: CircuitBreaker, watch: Watch) -> None:
    fail(breaker, 3)
    watch.at += 31
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    with breaker.call():
        pass
    assert breaker.state is BreakerState.CLOSED


def test_a_longer_pause_that_the_provider_asked_for_is_kept_within_reason(
    breaker: CircuitBreaker, watch: Watch
) -> None:
    fail(breaker, 3, ProviderUnavailable("slow down", retry_after=90))
    watch.at += 89
    assert breaker.state is BreakerState.OPEN
    watch.at += 2
    fail(breaker, 1, ProviderUnavailable("slow down", retry_after=86_400))
    watch.at += 301
    assert breaker.state is BreakerState.HALF_OPEN


def test_of_many_threads_at_once_one_tries_a_half_open_circuit(breaker: CircuitBreaker, watch: Watch) -> None:
    fail(breaker, 3)
    watch.at += 31
    tried, refused = [], []
    everybody, done = threading.Barrier(8), threading.Event()

    def caller() -> None:
        everybody.wait()
        try:
            with breaker.call():
                tried.append(1)
                done.wait(10)
        except ProviderUnavailable:
            refused.append(1)
            if len(refused) == 7:
                done.set()

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tried), len(refused)) == (1, 7)


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"open_seconds": 0.0}])
def test_a_breaker_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least 1 and above 0"):
        CircuitBreaker("yahoo", **wrong)


# ---------------------------------------------------------------- retries


class Failing:
    """Fails ``times`` times, then answers."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answer"


def retried(call: Failing, watch: Watch, *, seconds: float = 60.0, policy: RetryPolicy | None = None) -> str:
    return with_retries(
        call,
        policy=policy or RetryPolicy(attempts=3, base=1.0, cap=8.0),
        deadline=Deadline.after(seconds, watch),
        random=lambda: 0.5,
        sleep=watch.sleep,
    )


def test_an_unavailable_provider_is_tried_again_with_growing_jittered_waits(watch: Watch) -> None:
    call = Failing(2, ProviderUnavailable("down"))
    assert retried(call, watch) == "answer"
    assert watch.slept == [0.5, 1.0]


def test_the_last_try_hands_its_error_on(watch: Watch) -> None:
    call = Failing(9, ProviderUnavailable("down"))
    with pytest.raises(ProviderUnavailable, match="down"):
        retried(call, watch)
    assert (call.calls, watch.slept) == (3, [0.5, 1.0])


def test_waits_are_capped(watch: Watch) -> None:
    call = Failing(4, ProviderUnavailable("down"))
    retried(call, watch, policy=RetryPolicy(attempts=5, base=1.0, cap=2.0))
    assert watch.slept == [0.5, 1.0, 1.0, 1.0]


def test_what_is_no_outage_is_not_tried_again(watch: Watch) -> None:
    call = Failing(1, UnknownSymbol("NOPE"))
    with pytest.raises(UnknownSymbol):
        retried(call, watch)
    assert (call.calls, watch.slept) == (1, [])


def test_a_wait_that_the_deadline_does_not_allow_is_not_begun(watch: Watch) -> None:
    call = Failing(2, ProviderUnavailable("down"))
    with pytest.raises(ProviderUnavailable):
        retried(call, watch, seconds=0.9)
    assert (call.calls, watch.slept) == (1, [])


def test_a_pause_the_provider_asks_for_is_kept_or_not_begun(watch: Watch) -> None:
    patient, impatient = (Failing(1, AskedToWait("429", retry_after=20)) for _ in range(2))
    assert retried(patient, watch) == "answer"
    assert watch.slept == [20.5]
    with pytest.raises(AskedToWait):
        retried(impatient, watch, seconds=15)
    assert impatient.calls == 1


def test_a_policy_without_a_single_try_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one try"):
        RetryPolicy(attempts=0)


# ---------------------------------------------------------------- the deadline itself


def test_a_deadline_counts_down_and_never_below_nothing(watch: Watch) -> None:
    deadline = Deadline.after(10, watch)
    assert (deadline.remaining(), deadline.expired) == (10.0, False)
    watch.at += 11
    assert (deadline.remaining(), deadline.expired) == (0.0, True)


def test_the_share_of_a_step_is_never_later_than_the_whole(watch: Watch) -> None:
    deadline = Deadline.after(10, watch)
    assert deadline.within(3).remaining() == 3.0
    assert deadline.within(30).remaining() == 10.0
