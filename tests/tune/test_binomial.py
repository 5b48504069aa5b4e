import numpy as np
import pytest
from scipy import stats

from cascade.policy.binomial import least_rows, log_tail, log_tails, rows_needed, upper_limit


@pytest.mark.parametrize(("n", "limit"), [(1, 0.5), (10, 0.3), (500, 0.02), (3000, 0.15)])
def test_tails_are_those_of_scipy(n: int, limit: float) -> None:
    assert np.exp(log_tails(n, limit)) == pytest.approx(stats.binom.cdf(np.arange(n + 1), n, limit), abs=1e-10)
    for k in {0, n // 50, n // 3, n}:
        assert log_tail(k, n, limit) == pytest.approx(stats.binom.logcdf(k, n, limit), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(
    ("failures", "n", "limit"), [(9_800, 100_000, 0.1), (50_000, 1_000_000, 0.051), (7, 10**8, 1e-6)]
)
def test_the_tail_of_many_rows_needs_only_its_end(failures: int, n: int, limit: float) -> None:
    assert log_tail(failures, n, limit) == pytest.approx(stats.binom.logcdf(failures, n, limit), rel=1e-6)


@pytest.mark.parametrize(("failures", "n"), [(0, 20), (3, 40), (39, 40), (120, 2000)])
def test_the_upper_limit_is_clopper_and_pearsons(failures: int, n: int) -> None:
    limit = upper_limit(failures, n, 0.05)
    assert limit == pytest.approx(stats.beta.ppf(0.95, failures + 1, n - failures))
    assert upper_limit(n, n, 0.05) == 1.0


def test_the_rows_that_a_wish_takes() -> None:
    assert least_rows(0.02, 0.05) == 149
    assert log_tail(0, 149, 0.02) <= np.log(0.05) < log_tail(0, 148, 0.02)
    assert rows_needed(0.0, 0.02, 0.05) == 149
    needed = rows_needed(0.015, 0.02, 0.05)
    assert 2000 < needed < 3000
    assert log_tail(int(np.ceil(0.015 * needed)), int(needed), 0.02) <= np.log(0.05)
    assert rows_needed(0.02, 0.02, 0.05) == np.inf
