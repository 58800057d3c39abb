"""The page: parsed by a real parser, holding every number it was given, fetching nothing."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.report import Material, RunFacts, render
from leanrec.evaluation.report.svg import Line, Spot, interval_plot, line_plot
from leanrec.evaluation.rows import RowResults
from leanrec.models.item_knn import ItemKNN
from leanrec.models.popular import Popular

from ..models.worlds import shop

XHTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"


class Strict(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    strict = Strict()
    strict.feed(page)
    assert not strict.open
    for tag, attributes in strict.seen:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href", "onload", "style"} & set(attributes)
    assert "url(" not in page
    assert "@import" not in page
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


@pytest.fixture(scope="module")
def ranking():
    data = shop()
    models = {"knn": ItemKNN(neighbours=20, half_life=0).fit(data), "<popular>": Popular().fit(data)}
    return evaluate(models, data, k=[5, 10], details=True, slices=["category"])


def test_a_page_of_rankings_holds_its_tables_plots_slices_and_pairs(ranking):
    page = parsed(render(Material(evaluations={"shop & co": ranking.to_dict()}), "A <title>"))
    text = " ".join(page.itertext())
    assert page.find(f".//{XHTML}h1").text == "A <title>"
    assert "Evaluation: shop & co" in text
    assert "<popular>" in text
    low, high = ranking.interval("knn", "ndcg@10")
    assert f"{ranking['knn'].metrics['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]" in text
    assert "category=even" in text
    assert "p (Holm)" in text
    plots = page.findall(f".//{SVG}svg")
    assert len(plots) >= 6
    for circle in page.iter(f"{SVG}circle"):
        assert math.isfinite(float(circle.get("cx")))


def test_a_page_of_predictions_holds_its_curves():
    rng = np.random.default_rng(0)
    said = rng.random(300)
    truth = (rng.random(300) < said).astype(float)
    found = RowResults("ctr", "test", truth, np.arange(300) // 3, {"a": said, "b": rng.random(300)})
    page = parsed(render(Material(evaluations={"clicks": found.to_dict()}), "clicks"))
    titles = {one.text for one in page.findall(f".//{SVG}svg/{SVG}title")}
    assert {"ROC", "Precision and recall", "Calibration", "auc", "log_loss"} <= titles


def test_a_page_of_runs_and_audits_holds_their_facts():
    run = RunFacts(
        name="run", id="abc", card={"model": "sasrec", "compression": [
            {"step": "int8-items", "applied": True, "said": "4 times smaller", "facts": {}}]},
        certificate={"loss": {"metric": "ndcg@10", "users": 10}},
        curves={"train/loss": [(1, 2.0), (2, 1.5)], "none": []},
    )  # fmt: skip
    one = {"kind": "seen-items", "fault": True, "count": 3, "message": "3 items", "examples": ["u1"]}
    audit = {"findings": [one], "notes": [], "checks": ["seen-items", "unknown-items"]}
    page = parsed(render(Material(runs=[run], audits={"lists": audit}), "run"))
    text = " ".join(page.itertext())
    for expected in ("4 times smaller", "ndcg@10", "train/loss", "seen-items", "2 checks: 1 findings"):
        assert expected in text


def test_plots_say_their_values_and_stay_inside():
    plot = ElementTree.fromstring(interval_plot("ndcg@10", [Spot("a", 0.2, 0.1, 0.3), Spot("b", float("nan"))]))
    assert [title.text for title in plot.iter(f"{SVG}title")] == ["ndcg@10", "a: 0.2 [0.1, 0.3]"]
    plot = ElementTree.fromstring(line_plot("loss", [Line("a", [0, 1, 2], [3.0, math.inf, 1.0])], x="step", y="loss"))
    points = plot.find(f".//{SVG}polyline").get("points")
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", points)]
    assert len(numbers) == 4
    assert all(0 <= number <= 480 for number in numbers)
    assert line_plot("nothing", [Line("a", [], [])], x="x", y="y") == ""
    assert interval_plot("nothing", []) == ""
