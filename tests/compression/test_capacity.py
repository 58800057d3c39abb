"""Capacity: the formulas of queues against simulation, fits that find what made the points, and a bundle measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.cli.main import run
from leanrec.compression.capacity.model import Point, ServiceModel, fit, held_out_error, scaling, speedup
from leanrec.compression.capacity.plan import Capacity, Served, measure_capacity
from leanrec.compression.capacity.queueing import erlang_c, mean_wait, response_percentile, servers_needed
from leanrec.core.errors import ConfigError, InputError
from leanrec.data.dataset import Dataset
from leanrec.jobs.bench import BenchJob
from tests.compression.test_compress import data, histories, model  # noqa: F401


def simulate(rate: float, services: np.ndarray, servers: int, seed: int = 0) -> tuple[float, float]:
    """(mean wait, p99 of the whole) of first come, first served."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(services)))
    free = np.zeros(servers)
    waits = np.empty(len(services))
    for place, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        first = int(free.argmin())
        begun = max(arrival, free[first])
        waits[place] = begun - arrival
        free[first] = begun + service
    return float(waits.mean()), float(np.quantile(waits + services, 0.99))


@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("kind", ["exponential", "steady"])
def test_waiting_against_simulation(servers: int, load: float, kind: str) -> None:
    rng = np.random.default_rng(1)
    services = rng.exponential(1.0, 60_000) if kind == "exponential" else rng.uniform(0.9, 1.1, 60_000)
    cs2 = float(services.var() / services.mean() ** 2)
    rate = load * servers
    wait, p99 = simulate(rate, services, servers)
    assert mean_wait(rate, 1.0, servers, cs2=cs2) == pytest.approx(wait, rel=0.2)
    slow = float(np.quantile(services, 0.99))
    assert response_percentile(rate, 1.0, servers, slow=slow, cs2=cs2) == pytest.approx(p99, rel=0.25)


def test_erlang() -> None:
    assert erlang_c(1, 0.3) == pytest.approx(0.3)  # one server: waiting is finding it busy
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(3, 5.0) == 1.0
    assert mean_wait(2.0, 1.0, 2) == float("inf")
    assert response_percentile(2.0, 1.0, 2) == float("inf")
    assert response_percentile(0.001, 1.0, 2) == 1.0


def test_servers_needed() -> None:
    needed = servers_needed(1000, 0.002, 0.010, cs2=0.1)
    assert response_percentile(1000, 0.002, needed, cs2=0.1) <= 0.010
    assert needed == 3 or response_percentile(1000, 0.002, needed - 1, cs2=0.1) > 0.010
    assert servers_needed(1000, 0.002, 0.003, cs2=0.1) >= needed
    with pytest.raises(InputError, match="one answer alone takes 20 ms, more than 10 ms"):
        servers_needed(1, 0.020, 0.010)


TRUE = ServiceModel(call=50e-6, answer=5e-6, token=0.5e-6, row=1e-9, answer_row=2e-10, serial=0.05, crosstalk=0.01)


def points(noise: float) -> list[Point]:
    rng = np.random.default_rng(0)
    return [
        Point(batch=batch, tokens=float(batch * length), rows=rows, threads=threads,
              seconds=TRUE.seconds(batch, batch * length, rows, threads) * float(rng.uniform(1 - noise, 1 + noise)))
        for batch in (1, 4, 16, 64) for length in (1, 20, 200) for rows in (10_000, 100_000) for threads in (1, 2, 4)
    ]  # fmt: skip


def test_the_fit_finds_what_made_the_points() -> None:
    found = fit(points(0.0))
    for name in ("call", "answer", "token", "row", "answer_row", "serial", "crosstalk"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-3), name
    assert held_out_error(points(0.0)) == pytest.approx((0, 0), abs=1e-6)
    median, worst = held_out_error(points(0.1))
    assert median < 0.07
    assert worst < 0.3


def test_what_does_not_vary_is_left_out() -> None:
    one = [Point(batch=batch, tokens=20.0 * batch, rows=500, seconds=1e-4 + 1e-5 * batch) for batch in (1, 2, 4, 8)]
    found = fit(one)
    assert found.row == found.answer_row == 0
    assert found.seconds(3, 60, 500) == pytest.approx(1.3e-4)
    with pytest.raises(InputError, match="at least two measurements"):
        fit(one[:1])


def test_scaling() -> None:
    assert scaling([]) == (0, 0)
    assert scaling([(2, 1.6)]) == pytest.approx((0.25, 0))
    assert speedup(2, *scaling([(2, 1.6)])) == pytest.approx(1.6)
    assert scaling([(2, speedup(2, 0.1, 0.02)), (8, speedup(8, 0.1, 0.02))]) == pytest.approx((0.1, 0.02))


def capacity() -> Capacity:
    served = Served(mean=0.001, cs2=0.2, p99=0.002, rate=1000)
    return Capacity(
        model=TRUE, rows=10_000, tokens=20, served=served, together={1: 1000, 2: 1900}, queues={0.5: (1.0, 1.1)},
        points=points(0.0), cores=2, load=0.0,
    )  # fmt: skip


def test_cores_for_a_rate() -> None:
    found = capacity()
    few, many = found.need(500, 10), found.need(5000, 10)
    assert few.cores == 1
    assert 6 <= many.cores <= 9
    assert many.expected_p99_ms <= 10
    assert found.need(5000, 3).cores >= many.cores
    assert found.need(5000, 10, rows=40_000).cores > many.cores
    assert found.need(5000, 10, tokens=150).cores > many.cores
    assert "error on held-out points" in str(found)
    with pytest.raises(InputError, match="more cores do not help"):
        found.need(10, 1)


def test_a_bundle_is_measured(data: Dataset, tmp_path: Path) -> None:  # noqa: F811
    model(data).save(tmp_path / "b")
    found = measure_capacity(tmp_path / "b", histories(data), rows=len(data.items), seconds=0.05, cores=1)
    assert found.model.seconds(64, 64 * 20, len(data.items)) > found.model.seconds(1, 20, len(data.items)) > 0
    assert found.together == {1: found.served.rate}
    assert all(measured > 0 and foreseen > 0 for measured, foreseen in found.queues.values())


def test_the_command_line_refuses(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    model(data).save(tmp_path / "b")
    assert run(["bench", str(tmp_path / "b"), "--rate", "100"]) == 2
    assert "add --capacity" in capsys.readouterr().err
    assert run(["bench", str(tmp_path / "b"), "--capacity", "--p99", "5"]) == 2
    assert "--p99 '5' is not understood" in capsys.readouterr().err
    assert run(["bench", str(tmp_path / "no"), "--capacity"]) == 2
    with pytest.raises(ConfigError, match="rate must be above 0"):
        BenchJob(bundle="b", rate=-1)
