"""Slice metrics: every request counted once, known series at 0, series bounded."""

import pytest
from prometheus_client import CollectorRegistry

from modelserver.metrics import LATENCY_BUCKETS, MAX_CELLS, SliceMetrics

COUNTRIES = ("DE", "FR")
CHANNELS = ("app", "web")
CELLS = (len(COUNTRIES) + 1) * (len(CHANNELS) + 1)


class Exposed(SliceMetrics):
    """Metrics of two crossed dimensions and a wide one, in a registry of their own."""

    def __init__(self, **given) -> None:
        self.registry = CollectorRegistry()
        given = {"slices": {"country": COUNTRIES, "channel": CHANNELS}, "wide": {"shop": ("s1", "s2")}} | given
        super().__init__(decisions=("approve", "refer"), registry=self.registry, environ={}, **given)

    def samples(self, name: str, **labels: str) -> list[float]:
        return [
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        return sum(self.samples(name, **labels))

    def series(self) -> int:
        return sum(len(family.samples) for family in self.registry.collect())


def observe(metrics: SliceMetrics, country: str | None = "FR", **given) -> None:
    slices = {"country": country, "channel": "web", "shop": "s1"}
    metrics.observe(**({"slices": slices, "seconds": 0.012, "decision": "refer"} | given))


@pytest.mark.parametrize(
    ("name", "labels", "count"),
    [
        pytest.param("model_decisions_total", {}, 2 * CELLS, id="decisions, every cell"),
        pytest.param("model_decisions_total", {"country": "FR"}, 2 * 3, id="decisions of one country"),
        pytest.param("model_decisions_total", {"country": "other"}, 2 * 3, id="decisions of other countries"),
        pytest.param("model_requests_total", {"code": "500"}, CELLS, id="server errors, every cell"),
        pytest.param("model_decisions_by_shop_total", {}, 2 * 3, id="a wide dimension is crossed with nothing"),
    ],
)
def test_known_series_start_at_zero(name, labels, count):
    """Prometheus sees every known series before its first event."""
    assert [0.0] * count == Exposed().samples(name, **labels)


@pytest.mark.parametrize(
    "name", ["model_decisions_total", "model_requests_total", "model_decisions_by_shop_total", "model_score_count",
             "model_latency_seconds_count"],
)  # fmt: skip
def test_a_request_is_counted_once(name):
    """The sum over all labels is the number of requests, for each counter."""
    metrics = Exposed()
    for country in ("FR", "FR", "DE", "XX", None):
        observe(metrics, country, score=0.3)
    assert 5 == metrics.total(name)


def test_sums_by_one_dimension_are_its_requests():
    """What the operator asks for, sum by one label, is the truth about that label."""
    metrics = Exposed()
    for country in ("FR", "FR", "DE", "XX", None):
        observe(metrics, country)
    assert (2, 1, 2) == tuple(metrics.total("model_decisions_total", country=c) for c in ("FR", "DE", "other"))
    assert 5 == metrics.total("model_decisions_by_shop_total", shop="s1", decision="refer")


def test_values_nobody_declared_stay_bounded():
    """A thousand new values add no series; they are counted as other, and how many there were is told."""
    metrics = Exposed()
    before = metrics.series()
    for number in range(1_000):
        observe(metrics, f"country-{number}", slices={"country": f"c{number}", "channel": "web", "shop": f"s{number}"},
                decision="refer")  # fmt: skip
    assert before == metrics.series()
    assert 1_000 == metrics.total("model_decisions_total", country="other", channel="web")
    assert 1_000 == metrics.total("model_unknown_slice_values_total", slice="country")
    assert 998 == metrics.total("model_unknown_slice_values_total", slice="shop")


def test_absent_values_are_other_but_not_unknown():
    """A request that was refused before its slices were read is no sign of undeclared values."""
    metrics = Exposed()
    metrics.observe(slices={}, seconds=0.001, code=400)
    assert 1 == metrics.total("model_requests_total", code="400", country="other", channel="other")
    assert 0 == metrics.total("model_unknown_slice_values_total")


def test_a_request_without_a_decision_counts_only_as_a_request():
    """A failed request is in the error rate and in no decision rate."""
    metrics = Exposed()
    observe(metrics, code=503, decision=None)
    assert 1 == metrics.total("model_requests_total", code="503", country="FR")
    assert 0 == metrics.total("model_decisions_total") + metrics.total("model_decisions_by_shop_total")


def test_undeclared_decisions_are_other():
    """A model that answers something new adds one series, not one for each answer."""
    metrics = Exposed()
    for number in range(50):
        observe(metrics, decision=f"new-{number}")
    assert [50.0] == metrics.samples("model_decisions_total", decision="other")


def test_other_may_be_declared():
    """A data set that has its own "other" does not get a second one."""
    metrics = Exposed(slices={"country": ("FR", "other")}, wide={})
    assert 2 == len(metrics.samples("model_requests_total", code="200"))


def test_too_many_combinations_are_refused_with_advice():
    """Crossed dimensions cannot explode; the message says which one to move."""
    with pytest.raises(
        ValueError, match=rf"channel \(3\) x country \(251\) = 753 .* {MAX_CELLS} .* 'country' as wide="
    ):
        Exposed(slices={"channel": CHANNELS, "country": [str(number) for number in range(250)]})


def test_a_dimension_cannot_be_crossed_and_wide():
    """It would be counted twice."""
    with pytest.raises(ValueError, match=r"'country'.*choose one"):
        Exposed(wide={"country": COUNTRIES})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"slices": {"region": "EU"}}, "'region'.* not declared; declared are country, channel, shop",
                     id="a dimension nobody declared"),
        pytest.param({"code": 42}, "code: 42 is outside 100..599", id="no HTTP status code"),
    ],
)  # fmt: skip
def test_programming_errors_are_named(given, message):
    """A mistake in the service's code shows at its first request, before anything is counted."""
    metrics = Exposed()
    with pytest.raises(ValueError, match=message):
        observe(metrics, **given)
    assert 0 == metrics.total("model_requests_total")


def test_info_names_the_release():
    """model_info joins a pod's series to its release where pod labels are not scraped."""
    registry = CollectorRegistry()
    environ = {"MODELRELEASE_NAME": "loans", "MODELRELEASE_REVISION": "7f3c9b1", "MODELRELEASE_VERSION": "2026-11-05"}
    SliceMetrics(slices={}, decisions=("approve",), registry=registry, environ=environ)
    labels = {"release": "loans", "revision": "7f3c9b1", "version": "2026-11-05"}
    assert 1 == registry.get_sample_value("model_info", labels)


def test_latency_buckets_are_fine_enough_for_quantile_clauses():
    """The bucket above 1.1 times any quantile is within 20 % of it, the coarsest that a clause may be judged by."""
    quantiles = [0.002 * 1.01**step for step in range(700)]
    coarsest = max(
        next(bound for bound in LATENCY_BUCKETS if bound >= 1.1 * quantile) / quantile
        for quantile in quantiles
        if 1.1 * quantile <= LATENCY_BUCKETS[-1]
    )
    assert coarsest <= 1.2


@pytest.mark.parametrize("value", [["FR"], {"FR": 1}, 7, b"FR", True, ""])
def test_a_strange_value_is_no_reason_to_fail_a_request(value):
    """It comes from whoever sends requests."""
    metrics = Exposed()
    observe(metrics, value)
    assert 1 == metrics.total("model_requests_total", country="other")
    assert 1 == metrics.total("model_unknown_slice_values_total", slice="country")


def test_numbers_are_values_too():
    metrics = Exposed(slices={"term": (36, 60)})
    metrics.observe(slices={"term": 36}, seconds=0.01)
    metrics.observe(slices={"term": "60"}, seconds=0.01)
    assert [1, 1] == [metrics.total("model_requests_total", term=term) for term in ("36", "60")]


def test_a_score_that_is_no_number_is_seen():
    """A model that gives none for some requests must not look like one that gives fewer scores."""
    metrics = Exposed()
    for score in (0.3, float("nan")):
        observe(metrics, score=score)
    assert 2 == metrics.total("model_score_count")
    assert [1, 2] == [metrics.total("model_score_bucket", le=bound) for bound in ("1.0", "+Inf")]


@pytest.mark.parametrize("name", ["code", "decision", "release", "revision", "namespace", "instance", "le"])
def test_a_slice_named_like_a_label_that_is_taken_is_refused(name):
    """The scrape would rename it, and a clause about it would find nothing."""
    for given in ({"slices": {name: ("a",)}}, {"slices": {}, "wide": {name: ("a",)}}):
        with pytest.raises(ValueError, match=f"'{name}'.* choose other names"):
            Exposed(**given)
