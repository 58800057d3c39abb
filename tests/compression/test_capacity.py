"""Capacity: the formulas of queues against simulation, fits that find what made the points, and a bundle measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from leanrec.cli.main import run
from leanrec.compression.capacity.measure import PAUSES
from leanrec.compression.capacity.model import Point, ServiceModel, fit, held_out_error, scaling, speedup
from leanrec.compression.capacity.plan import Capacity, measure_capacity
from leanrec.compression.capacity.queueing import (
    Queue,
    Services,
    erlang_c,
    fitted,
    mean_wait,
    quantiles,
    response_percentile,
    servers_needed,
)
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
    spread = Services(warm=quantiles(services.tolist()))
    assert spread.cs2 == pytest.approx(cs2, rel=0.15)
    assert response_percentile(rate, spread, servers) == pytest.approx(p99, rel=0.15)


def test_a_server_that_paused_is_slower() -> None:
    """Against a queue in which a service takes twice as long after a pause of more than two services."""
    rng = np.random.default_rng(2)
    services = rng.uniform(0.9, 1.1, 60_000)
    after = [(pause, quantiles((services * (1 + (pause > 2))).tolist())) for pause in (0.5, 1.5, 2.5, 3.5, 6)]
    spread = Services(warm=quantiles(services.tolist()), after=after)
    for rate in (0.1, 0.3, 0.5):
        arrivals = np.cumsum(rng.exponential(1 / rate, len(services)))
        free, seconds = 0.0, np.empty(len(services))
        for place, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
            took = service * (2 if arrival - free > 2 else 1)
            free = max(arrival, free) + took
            seconds[place] = free - arrival
        measured = float(np.quantile(seconds, 0.99))
        assert response_percentile(rate, spread, 1) == pytest.approx(measured, rel=0.2)
        assert response_percentile(rate, Services(warm=spread.warm), 1) < 0.9 * measured


def test_slow_moments_make_longer_queues() -> None:
    """Services that are alike for a while, where independent ones of the same spread would be foreseen too short."""
    rng = np.random.default_rng(3)
    services = np.repeat(rng.exponential(1.0, 12_000), 5)
    measured = {rate: simulate(rate, services, 1)[1] for rate in (0.2, 0.4, 0.6, 0.8)}
    spread = Services(warm=quantiles(services.tolist()))
    for rate in (0.4, 0.6):
        others = [Queue(rate=other, p99=p99) for other, p99 in measured.items() if other != rate]
        assert response_percentile(rate, fitted(spread, others), 1) == pytest.approx(measured[rate], rel=0.25)
        assert response_percentile(rate, spread, 1) < 0.75 * measured[rate]
    alone = Services(warm=quantiles(rng.uniform(0.9, 1.1, 9000).tolist()))
    queues = [Queue(rate=rate, p99=response_percentile(rate, alone, 1)) for rate in (0.3, 0.7)]
    overrun = Queue(rate=0.9, p99=1e3, service=1.2)
    assert fitted(alone, [*queues, overrun]).dispersion == alone.cs2
    assert overrun.foreseen(alone) == float("inf")


def test_a_queue_is_foreseen_at_the_speed_it_had() -> None:
    alone = Services(warm=[0.9, 1.0, 1.1])
    assert Queue(rate=0.25, p99=1.0, service=2.0).foreseen(alone) == pytest.approx(
        2 * response_percentile(0.5, alone, 1)
    )


def test_erlang() -> None:
    assert erlang_c(1, 0.3) == pytest.approx(0.3)  # one server: waiting is finding it busy
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(3, 5.0) == 1.0
    assert mean_wait(2.0, 1.0, 2) == float("inf")
    assert response_percentile(2.0, STEADY, 2) == float("inf")
    assert response_percentile(0.001, STEADY, 2) == pytest.approx(1.0)


STEADY = Services(warm=[1.0])


def test_servers_needed() -> None:
    two = Services(warm=[0.002], dispersion=0.1)
    needed = servers_needed(1000, two, 0.010)
    assert response_percentile(1000, two, needed) <= 0.010
    assert needed == 3 or response_percentile(1000, two, needed - 1) > 0.010
    assert servers_needed(1000, two, 0.003) >= needed
    with pytest.raises(InputError, match="one answer alone takes 20 ms, more than 10 ms"):
        servers_needed(1, Services(warm=[0.020]), 0.010)
    with pytest.raises(InputError, match="after a pause 99% of the answers take up to 30 ms"):
        servers_needed(1, Services(warm=[0.005], after=[(0.01, [0.030])]), 0.010)


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
    served = Services(warm=[0.0005, 0.001, 0.0015], dispersion=0.2, after=[(0.01, [0.002])])
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
    assert found.need(10, 3).expected_p99_ms == pytest.approx(2, rel=0.1)  # of servers that mostly pause


def test_questions_beyond_what_was_measured() -> None:
    found = capacity()
    most, longest = max(one.rows for one in found.points), max(one.tokens / one.batch for one in found.points)
    assert found.beyond(most, longest) == []
    assert "lies beyond what was measured" in found.beyond(4 * most)[0]
    with pytest.raises(InputError, match=r"--items .* over 10 times as many; measure a bundle"):
        found.need(500, 10, rows=11 * most)
    blind = msgspec.structs.replace(found, model=msgspec.structs.replace(found.model, row=0.0, answer_row=0.0))
    with pytest.raises(InputError, match=r"--items .* too small to measure"):
        blind.need(500, 10, rows=2 * most)
    assert blind.need(500, 10, rows=most).cores == 1
    flat = msgspec.structs.replace(found, model=msgspec.structs.replace(found.model, token=0.0))
    with pytest.raises(InputError, match=r"--history .* too small to measure"):
        flat.need(500, 10, tokens=2 * longest)


def test_more_cores_that_answer_less_are_named() -> None:
    found = msgspec.structs.replace(capacity(), together={1: 1000, 2: 770})
    assert "2 cores at once answered less than one" in str(found)


def test_a_bundle_is_measured(data: Dataset, tmp_path: Path) -> None:  # noqa: F811
    model(data).save(tmp_path / "b")
    found = measure_capacity(tmp_path / "b", histories(data), rows=len(data.items), seconds=0.05, cores=1)
    assert found.model.seconds(64, 64 * 20, len(data.items)) > found.model.seconds(1, 20, len(data.items)) > 0
    assert found.together == {1: 1 / found.served.mean}
    assert [pause for pause, _ in found.served.after] == sorted(PAUSES)
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
