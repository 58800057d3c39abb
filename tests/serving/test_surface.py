"""The OpenAPI document and the metrics: what is promised to machines."""

from __future__ import annotations

from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from leanrec.serving.metrics import Counter, Gauge, Histogram
from leanrec.serving.openapi import document
from leanrec.serving.routes import ROUTES

from .harness import Local


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [r for value in part.values() for r in references(value)]
    return [r for value in part for r in references(value)] if isinstance(part, list) else []


def test_the_document_covers_the_table_and_refers_to_what_is_there() -> None:
    openapi = msgspec.json.decode(document())
    assert openapi["openapi"] == "3.1.0"
    assert openapi["info"].keys() >= {"title", "version"}
    described = {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    names = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    used = set(references(openapi))
    assert used <= names
    assert names <= used
    operations = [operation for methods in openapi["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    for operation in operations:
        assert operation["summary"]
        assert {"200", "default"} <= operation["responses"].keys()
    for path, methods in openapi["paths"].items():
        declared = {p["name"] for m in methods.values() for p in m.get("parameters", ()) if p["in"] == "path"}
        assert declared == ({"item_id"} if "{" in path else set())


def test_caps_stand_in_the_document() -> None:
    schemas = msgspec.json.decode(document())["components"]["schemas"]
    assert schemas["Query"]["properties"]["k"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}
    assert schemas["Query"]["additionalProperties"] is False
    assert schemas["EventIn"]["required"] == ["event_id", "user_id", "item_id"]


def test_responses_have_the_documented_shape(local: Local) -> None:
    schemas = msgspec.json.decode(document())["components"]["schemas"]
    answer = local.ask("POST", "/v1/recommend", {"history": ["i1"], "k": 1}).json
    assert (
        set(schemas["RecommendResponse"]["required"])
        <= answer.keys()
        <= set(schemas["RecommendResponse"]["properties"])
    )
    assert set(schemas["Item"]["required"]) <= answer["items"][0].keys()


def test_metrics_are_readable_and_name_no_one(local: Local) -> None:
    local.ask("POST", "/v1/recommend", {"user_id": "u0"})
    local.ask("POST", "/v1/recommend", {"user_id": "very-private-user"})
    local.ask("GET", "/v1/similar/i7-private")
    local.ask("GET", "/private-path")
    event = {"event_id": "e", "user_id": "very-private-user", "item_id": "i1"}
    local.ask("POST", "/v1/events", {"events": [event, event]})
    text = local.ask("GET", "/metrics").content.decode()
    assert "private" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {(s.name, *sorted(s.labels.values())): s.value for f in families.values() for s in f.samples}
    assert samples["leanrec_requests_total", "/v1/recommend", "200", "POST"] == 2
    assert samples["leanrec_requests_total", "/v1/similar/{item_id}", "404", "GET"] == 1
    assert samples["leanrec_requests_total", "404", "other", "other"] == 1
    assert samples["leanrec_answers_total", "false"] == samples["leanrec_answers_total", "true"] == 1
    assert samples["leanrec_events_total", "accepted"] == samples["leanrec_events_total", "duplicate"] == 1
    assert samples["leanrec_ready",] == 1
    assert samples["leanrec_pending_questions",] == 0
    assert samples["process_resident_memory_bytes",] > 1e6
    assert families["leanrec_request_seconds"].type == "histogram"


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    histogram = Histogram("h", "help", (1, 2.5), ("route",))
    for value in (0.5, 1, 2, 99):
        histogram.observe(value, "a")
    (family,) = text_string_to_metric_families("\n".join(histogram.lines()) + "\n")
    counts = {sample.labels.get("le", sample.name): sample.value for sample in family.samples}
    assert counts == {"1": 2, "2.5": 3, "+Inf": 4, "h_sum": 102.5, "h_count": 4}


def test_labels_are_escaped() -> None:
    counter = Counter("c", "help", ("text",))
    counter.add('a"b\\c\nd')
    (family,) = text_string_to_metric_families("\n".join(counter.lines()) + "\n")
    assert family.samples[0].labels == {"text": 'a"b\\c\nd'}
    (family,) = text_string_to_metric_families("\n".join(Gauge("g", "help", lambda: 1.5, kind="x").lines()) + "\n")
    assert family.samples[0].value == 1.5
