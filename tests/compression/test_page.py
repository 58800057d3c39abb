"""The page of a search: what a reader needs to judge its numbers, nothing from elsewhere, nothing unescaped."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

import leanrec
from leanrec.compression.base import StepRecord
from leanrec.compression.budget import Budget, Price
from leanrec.compression.figures import Figures
from leanrec.compression.ladder import Rung, plan_name
from leanrec.compression.measure import Measurement
from leanrec.compression.outcome import Optimised
from leanrec.compression.page import render
from leanrec.compression.promise import Look
from leanrec.compression.quality import Quality
from leanrec.core.machine import cpu_model
from leanrec.evaluation.certificate import certify_loss
from leanrec.evaluation.paired import Paired

EVIL = '<img src="x" onerror="y">&'
ROWS = [
    {"layer": "up", "group": False, "precision": "int8-weight", "loss": 0.0123, "before": 12_670.0, "after": 3_300.0},
    {"layer": "*", "group": True, "precision": "int8-weight", "loss": 0.05, "before": 3 << 20, "after": 1 << 20},
    {"layer": EVIL, "group": False, "precision": EVIL, "loss": None, "before": 900.0, "after": 450.0},
]


def rung(*plan: Any, load: float = 0.4, **changes: float) -> Rung:
    """A plan measured: 4 ms, 120 MiB, a bundle of 8 MiB."""
    values = {
        "loss": 0.002,
        "p50_ms": 2.0,
        "p99_ms": 4.0,
        "memory": 120 << 20,
        "size": 8 << 20,
        "cost": 0.02,
        **changes,
    }
    measured = Measurement(
        latency_p50_ms=2, latency_p99_ms=4, answers_per_second=900, first_answer_seconds=1, bytes_scanned=1,
        bundle_bytes=8 << 20, rss=1, pss=120 << 20, private=1, torch_imported=False, cores=2, load=load, concurrency=4,
        served_per_second=500, core_seconds=0.002,
    )  # fmt: skip
    return Rung(plan=plan, said=f"said {EVIL}", pays=True, figures=Figures(**values), measured=measured)


def outcome(budget: Budget, *, pays: str = "bytes", chosen: bool = True) -> Optimised:
    """A search on a data set with a hostile name, of a plan with many digits."""
    values = np.linspace(0, 1, 500)
    certificate = certify_loss(values, values, metric="ndcg@10", alpha=0.0375)
    paired = Paired(
        metric="ndcg@10", model="after", baseline="before", users=500, difference=0.0, interval=(0.0, 0.0),
        relative=None, relative_interval=None, verdict="undecided", method="t",
    )  # fmt: skip
    quality = Quality(
        metric="ndcg@10", users=500, before=0.5, after=0.5, identical=True, include_seen=False, paired=paired,
        certificate=certificate,
    )  # fmt: skip
    best = rung({"step": "items", "kind": "int6", "asked": 0.6123456789}, "engine", load=2.5, p99_ms=3.0)
    odd = rung({"step": "noisy", "words": EVIL}, loss=0.08)
    facts = {"metric": "overlap@10", "pays": pays, "sensitivity": ROWS}
    record = StepRecord(step="mixed-precision", applied=True, said="done", facts=facts)
    mixed = msgspec.structs.replace(rung("mixed-precision"), records=[record])
    return Optimised(
        before_id="abc", budget=budget, price=Price(), singles=[rung(), odd, mixed], rows=[rung(), odd, mixed, best],
        front=[best], ladder=[rung(), best], candidates=[best],
        looks=[Look(candidate=0, kept="certificate", alpha=0.0375, quality=quality)],
        chosen=best if chosen else None, sentence="it is the cheapest", metric_users=300, data=f"shop {EVIL}",
        alpha=0.05, again=0.2,
    )  # fmt: skip


def read(page: str) -> str:
    """The words of a page, which is well-formed."""
    return " ".join(ElementTree.fromstring(page.partition("\n")[2]).itertext())


def test_the_head_says_when_where_and_under_which_load() -> None:
    said = read(render(outcome(Budget())))
    for text in (
        leanrec.__version__, f"shop {EVIL}", cpu_model(), "2 cores; products on one thread",
        "0.40 to 2.50 in the minute before", "20 % of the questions",
        "95 % for all looks", "96.25 %",
    ):  # fmt: skip
        assert text in said, text
    cells = re.findall(r"<td>(.*?)</td>", render(outcome(Budget())))
    assert cells[cells.index("asked at once") + 1] == "4"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", cells[cells.index("page written") + 1])


@pytest.mark.parametrize("chosen", [True, False])
def test_nothing_comes_from_elsewhere_and_nothing_is_unescaped(chosen: bool) -> None:
    page = render(outcome(Budget(p99_ms=5), chosen=chosen))
    assert EVIL not in page and "<img" not in page and 'onerror="' not in page
    assert EVIL in read(page)
    assert set(re.findall(r"https?://[^\s\"<]+", page)) == {
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }
    root = ElementTree.fromstring(page.partition("\n")[2])
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "use", "a", "base"}
    assert not {name for one in root.iter() for name in one.attrib} & {"href", "src", "srcset", "data", "action"}
    assert "url(" not in page and "@import" not in page


def test_the_table_of_sensitivity_in_words_and_units() -> None:
    page = render(outcome(Budget()))
    for text in (
        "<th>loss of overlap@10</th>", "<th>bytes before</th>", "<th>bytes after</th>", "<td>12 KiB</td>",
        "<td>3 MiB</td>", "<td>900 B</td>", "<td>one layer</td>", "<td>layers together</td>", "<td>1.23 %</td>",
        "loss of overlap@10 with int8-weight in this layer alone",
    ):  # fmt: skip
        assert text in page, text
    assert "e+04" not in page and "<td>True</td>" not in page and "<td>False</td>" not in page
    rows = [{**row, "before": 4.25e-5, "after": 2e-5} for row in ROWS]
    found = outcome(Budget(), pays="time")
    found.singles[2].records[0].facts["sensitivity"] = rows
    page = render(found)
    assert "<th>us before</th>" in page and "<td>42.5</td>" in page


def test_budgets_stand_on_the_axes() -> None:
    page = render(outcome(Budget(max_quality_loss=0.01, p99_ms=5, memory=130 << 20, size=900 << 20)))
    assert "budget -1<title>" in page
    assert page.count("budget 5<title>") == page.count("budget 130<title>") == 2  # of the front and of the ladder
    assert page.count("budget 900 \N{RIGHTWARDS ARROW}<title>") == 2  # far beyond: named at the end of the axis
    assert page.count('<line class="limit"') == 4 + 2 + 2
    free = render(outcome(Budget()))
    assert set(re.findall(r"budget (\S+?)<title>", free)) == {"-1"}


def test_plans_have_three_digits_and_all_of_them() -> None:
    found = outcome(Budget())
    page = render(found)
    root = ElementTree.fromstring(page.partition("\n")[2])
    assert found.front[0].name == "items(kind=int6, asked=0.612) + engine"
    rows = [one for one in root.iter() if one.tag.endswith("}tr") and one.get("title") == found.front[0].exact]
    assert {row[0].text for row in rows} == {found.front[0].name}
    assert len(rows) == 3  # front, ladder, promise
    assert msgspec.json.decode(found.front[0].exact)[0]["asked"] == 0.6123456789
    assert f"The plan with every digit:  {found.front[0].exact}" in read(page)


def test_names_of_plans() -> None:
    steps = ({"step": "index", "kind": "ivf-int4", "settings": {"probes": 64, "spare": 1 / 3}}, "int8-dense")
    assert plan_name(steps) == "index(kind=ivf-int4, settings={probes=64, spare=0.333}) + int8-dense"
    assert plan_name([{"step": "quantise", "layers": ["up", "down"], "tolerance": 1e-5}]) == (
        "quantise(layers=[up, down], tolerance=1e-05)"
    )
    assert plan_name(()) == "as it was"
