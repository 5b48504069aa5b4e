"""What is so at the moment of a scrape and is no event: the build, the models, the cache, drift."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from cascade.cache import Answers
from cascade.observe.drift import ENOUGH, Drift
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckResponse


class State(Collector):
    """The state of the pipeline that was adopted last, as metrics."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._before: Counter[str] = Counter()  # what the caches of earlier pipelines have counted
        self._drifts: dict[str, tuple[str, Drift]] = {}  # by revision: the policy's name, and what is known of it

    def adopt(self, pipeline: Pipeline) -> None:
        """Tells of this pipeline from now on. Drift is measured anew only where a policy has changed."""
        policies = [pipeline.policies.get(name) for name in pipeline.policies.names()]
        self._drifts = {
            policy.revision: self._drifts.get(policy.revision, (policy.name, Drift(policy.reference)))
            for policy in policies
            if policy.reference is not None
        }
        if self._pipeline and self._pipeline.answers is not pipeline.answers:
            self._before.update(_counts(self._pipeline.answers))
        self._pipeline = pipeline

    def observe(self, response: CheckResponse) -> None:
        """Takes note of an answer for what drifts."""
        drift = self._drifts.get(response.policy_revision)
        if drift and response.stages:
            drift[1].add(response.stages[0].calibrated_probability, response.route.escalated)

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        build = {"version": own_version(), "python": platform.python_version()}
        yield InfoMetricFamily("cascade_build", "What serves.", build)
        if self._pipeline is None:
            return
        models = InfoMetricFamily("cascade_model", "The models that judge.", labels=["stage"])
        for role, batcher in self._pipeline.stages.items():
            info = batcher.stage.info
            facts = {name: getattr(info, name) for name in ("name", "revision", "kind", "runtime", "device")}
            models.add_metric([role], facts)
        yield models
        if self._pipeline.answers:
            yield from self._cache(self._pipeline.answers)
        yield from self._drift()

    def _cache(self, answers: Answers) -> Iterator[Metric]:
        counts = _counts(answers)
        counts.update(self._before)
        requests = CounterMetricFamily(
            "cascade_cache_requests",
            "Checks by what the cache did: hit, shared with an equal one under way, miss.",
            labels=["outcome"],
        )
        for outcome in ("hit", "shared", "miss"):
            requests.add_metric([outcome], counts[outcome])
        yield requests
        yield CounterMetricFamily("cascade_cache_evictions", "Answers forgotten for want of room.", counts["evicted"])
        yield GaugeMetricFamily("cascade_cache_entries", "Answers that are kept.", len(answers.kept))
        yield GaugeMetricFamily("cascade_cache_bytes", "Memory that they take.", answers.kept.bytes)

    def _drift(self) -> Iterator[Metric]:
        """Of each policy that has a reference; what was measured only once there were enough checks."""
        index = GaugeMetricFamily(
            "cascade_drift_score_psi",
            "Population stability index of stage 1's latest scores against the policy's reference.",
            labels=["policy"],
        )
        now = GaugeMetricFamily(
            "cascade_drift_escalation_ratio", "Share of the latest checks that was escalated.", labels=["policy"]
        )
        reference = GaugeMetricFamily(
            "cascade_reference_escalation_ratio", "The same share of the policy's reference.", labels=["policy"]
        )
        for name, drift in self._drifts.values():
            reference.add_metric([name], drift.reference.escalated)
            if drift.checks >= ENOUGH:
                index.add_metric([name], drift.index)
                now.add_metric([name], drift.escalation)
        yield from (family for family in (index, now, reference) if family.samples)


def own_version() -> str:
    """The version of this package; "unknown" in a checkout that is not installed."""
    try:
        return version("safety-cascade")
    except PackageNotFoundError:
        return "unknown"


def _counts(answers: Answers | None) -> Counter[str]:
    if answers is None:
        return Counter()
    return Counter(hit=answers.hits, shared=answers.shared, miss=answers.misses, evicted=answers.kept.evicted)
