"""The metrics of several processes as those of one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from cascade.observe.merged import Merged, counted, merge


def process(calls: int, queue: float) -> list[Metric]:
    """What a process has counted."""
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", ["code"], registry=registry)
    counter.labels("OK").inc(calls)
    histogram = Histogram("seconds", "Time.", buckets=(1, 2), registry=registry)
    for _ in range(calls):
        histogram.observe(1.5)
    Gauge("queue", "Waiting.", registry=registry).set(queue)
    return list(registry.collect())


def samples(families: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_what_is_counted_is_added_up_and_gauges_are_told_apart() -> None:
    assert samples(merge({"0": process(2, 5), "1": process(3, 7)})) == {
        ("calls_total", "code=OK"): 5,
        ("seconds_bucket", "le=1.0"): 0,
        ("seconds_bucket", "le=2.0"): 5,
        ("seconds_bucket", "le=+Inf"): 5,
        ("seconds_count",): 5,
        ("seconds_sum",): 7.5,
        ("queue", "worker=0"): 5,
        ("queue", "worker=1"): 7,
    }


def test_the_counts_of_the_dead_stay_and_their_gauges_do_not() -> None:
    dead = counted(counted([], process(10, 1)), process(20, 1))
    found = samples(merge({"0": process(1, 5)}, dead))
    assert found["calls_total", "code=OK"] == 31
    assert {key for key in found if key[0] == "queue"} == {("queue", "worker=0")}


def test_counting_began_when_the_first_of_them_began() -> None:
    first, second = process(1, 0), process(1, 0)
    since = [
        {sample.value for family in families for sample in family.samples if sample.name == "calls_created"}
        for families in (first, second, merge({"0": first, "1": second}))
    ]
    assert since[2] == {min(since[0] | since[1])}


def test_it_is_served_as_the_text_of_one_process() -> None:
    registry = CollectorRegistry()
    registry.register(Merged(lambda: ({"0": process(2, 5), "1": process(3, 7)}, [])))
    page = generate_latest(registry).decode()
    assert page.count("# TYPE calls_total counter") == 1
    assert 'calls_total{code="OK"} 5.0' in page
    assert 'queue{worker="1"} 7.0' in page
