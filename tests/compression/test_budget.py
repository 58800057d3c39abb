"""Budgets and prices: how they are written, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

import leanrec as lr
from leanrec.compression.budget import Budget, Price, parse_budget, read_price
from leanrec.core.errors import ConfigError, InputError


def test_a_budget_from_the_command_line() -> None:
    found = parse_budget(
        {"max_quality_loss": "1%", "p99": "5ms", "memory": "64MB", "size": "16MiB", "cost": ".5", "metric": "recall@20"}
    )
    assert found == Budget(
        max_quality_loss=0.01, p99_ms=5.0, memory=64_000_000, size=16 << 20, cost=0.5, metric="recall@20"
    )
    assert parse_budget({"max_quality_loss": " 2.5 % ", "p99": "0.2s", "memory": None}) == Budget(
        max_quality_loss=0.025, p99_ms=200.0
    )
    assert parse_budget({"max_quality_loss": "0.02", "memory": "1.5gib"}).memory == 3 << 29
    assert lr.Budget is Budget
    assert str(lr.Budget(p99_ms=5, memory=1 << 26)) == (
        "ndcg@10 loses at most 1 %, p99 at most 5 ms, memory at most 64 MiB"
    )


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("max_quality_loss", "1 percent", "--max-quality-loss '1 percent' is not understood: write for instance 1%"),
        ("max_quality_loss", "5", "is a loss of 500 %, all there is: write for instance 5%"),
        ("max_quality_loss", "0%", "cannot be kept by anything"),
        ("max_quality_loss", "-1%", "cannot be kept by anything"),
        ("max_quality_loss", "120%", "all there is"),
        ("p99", "5", "--p99 '5' is not understood: write for instance 5ms"),
        ("p99", "5mms", "is not understood"),
        ("p99", "0ms", "write a number above 0"),
        ("memory", "64Mb/s", "is not understood: write for instance 64MB"),
        ("memory", "64", "is not understood"),
        ("size", "-1MB", "above 0"),
        ("cost", "free", "--cost 'free' is not understood"),
        ("metric", "coverage@10", "promise a per-user metric"),
        ("metric", "ndgc@10", "did you mean"),
    ],
)
def test_typos_and_impossible_budgets(option: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_budget({option: text})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [{"max_quality_loss": 0}, {"max_quality_loss": 1.5}, {"p99_ms": -1}, {"memory": 0}, {"cost": float("inf")}],
)
def test_budgets_from_python_are_checked_too(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Budget(**values)  # type: ignore[arg-type]


def test_prices(tmp_path: Path) -> None:
    assert read_price(None) == Price()
    (tmp_path / "p.toml").write_text('core_hour = 0.09\ngib_hour = 0.01\ncurrency = "EUR"\n')
    price = read_price(tmp_path / "p.toml")
    assert (price.core_hour, price.currency) == (0.09, "EUR")
    # a million answers of 3.6 ms of one core are one core-hour; 1 GiB for 3.6 ms each is one GiB-hour
    assert price.per_million(core_seconds=0.0036, seconds=0.0036, memory=2**30) == pytest.approx(0.10)
    (tmp_path / "q.toml").write_text("core_hours = 1")
    with pytest.raises(ConfigError, match="unknown key 'core_hours' \\(did you mean 'core_hour'"):
        read_price(tmp_path / "q.toml")
    for values in ({"core_hour": -1}, {"core_hour": 0, "gib_hour": 0}):
        with pytest.raises(ConfigError):
            Price(**values)  # type: ignore[arg-type]


def test_a_plan_or_a_budget() -> None:
    with pytest.raises(InputError, match="give one of them"):
        lr.compress("bundle", None, plan="int8", budget=Budget())  # type: ignore[arg-type]
