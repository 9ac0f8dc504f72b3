"""Quotas: buckets of a minute's worth that fill with time."""

from __future__ import annotations

import pytest

from core.errors import QuotaExceeded
from core.security.quotas import UNLIMITED, Limits, Meter, Meters


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_s_worth_may_be_used_at_once_and_then_as_it_fills() -> None:
    clock = Clock()
    meter = Meter(Limits(requests_per_minute=30), clock)
    for _ in range(30):
        meter.request()

    with pytest.raises(QuotaExceeded, match="30 requests per minute") as refused:
        meter.request()
    assert refused.value.retry_after_seconds == pytest.approx(60 / 30)

    clock.now += 60 / 30
    meter.request()
    with pytest.raises(QuotaExceeded):
        meter.request()


def test_model_tokens_are_paid_for_when_they_are_read_and_debts_come_first() -> None:
    clock = Clock()
    meter = Meter(Limits(model_tokens_per_minute=600), clock)
    meter.request()
    meter.model_tokens(900)

    with pytest.raises(QuotaExceeded, match="600 model tokens") as refused:
        meter.request()
    assert refused.value.retry_after_seconds == pytest.approx((900 - 600 + 1) * 60 / 600)

    clock.now += refused.value.retry_after_seconds
    meter.request()


def test_a_request_that_holds_several_is_paid_for_as_several() -> None:
    clock = Clock()
    meter = Meter(Limits(requests_per_minute=60), clock)
    meter.request()
    meter.further_requests(99)

    assert meter.seconds_until_request() == pytest.approx(100 - 60 + 1)


def test_an_idle_bucket_holds_no_more_than_a_minute_s_worth() -> None:
    clock = Clock()
    meter = Meter(Limits(requests_per_minute=2), clock)
    clock.now += 3600
    meter.request()
    meter.request()

    with pytest.raises(QuotaExceeded):
        meter.request()


def test_keys_of_one_name_share_a_meter_and_changed_limits_begin_anew() -> None:
    meters = Meters(Clock())
    limits = Limits(requests_per_minute=1)
    meters.of("web", limits).request()

    with pytest.raises(QuotaExceeded):
        meters.of("web", limits).request()
    meters.of("other", limits).request()
    meters.of("web", Limits(requests_per_minute=2)).request()


def test_without_limits_nothing_is_counted() -> None:
    assert Meters(Clock()).of("web", Limits()) is UNLIMITED
    assert not UNLIMITED.counts_tokens
    UNLIMITED.request()
