"""`leanrec prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from leanrec.cli.options import Json, Texts
from leanrec.cli.output import emit

__all__ = ["prepare"]


def prepare(
    events: str,
    /,
    *,
    out: Path,
    items: Path | None = None,
    users: Path | None = None,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    value_col: str | None = None,
    order_by: str | None = None,
    context: Texts = (),
    split: Annotated[str, Parameter(metavar="RULE")] = "leave-one-out",
    min_count: int = 0,
    repeats: Literal["allowed", "excluded"] | None = None,
    positive: str | None = None,
    drop: Texts = (),
    format: Literal["criteo", "avazu", "table"] | None = None,
    label: str | None = None,
    keep_negatives: float = 1.0,
    seed: int = 0,
    json: Json = False,
) -> int:
    """Turn a log of events into a data set: cleaned, encoded, split, with a report of every row dropped or repaired.

    Args:
        events: A file, a glob or a folder: Parquet, CSV, TSV, JSON Lines, Arrow, RecBole .inter.
        out: The folder to write.
        items: A table of items: item_id and any attributes, such as title.
        users: A table of users: user_id and any attributes.
        user_col: The column of user ids (default: user_id).
        item_col: The column of item ids (default: item_id).
        time_col: The column of times (default: timestamp, when there).
        value_col: The column of values, such as ratings or quantities (default: value or rating, when there).
        order_by: A column that orders events of the same user and time.
        context: Columns that say something of the moment, such as device,page: models of clicks look at them.
        split: leave-one-out, time:0.8,0.1,0.1, ratio:0.8,0.1,0.1, users:0.8,0.1,0.1 or column:NAME.
        min_count: Keep users and items with at least so many events, repeatedly.
        repeats: Whether items a user has already had may be recommended (default: guessed from the data, and said).
        positive: Keep only events that satisfy this, for instance 'value>=4'.
        drop: What else to leave out: duplicates, bots.
        format: A log of labelled rows instead of events, for models of clicks: criteo (TSV), avazu (CSV), or table, any
            of the files above with a column of 0 and 1. Its --split is time:0.8,0.1,0.1 by the order of the file (the
            default), random:0.8,0.1,0.1, or days:1,1 (the last day tests, the one before validates).
        label: The column of 0 and 1 of --format table.
        keep_negatives: Share of the training rows with label 0 that --format keeps; probabilities are put right for it.
        seed: What is drawn at random follows from it: validation parts, held-out users, who only certifies.
    """
    from leanrec.jobs.prepare import ExamplesJob, PrepareJob, prepare_dataset, prepare_rows

    if format is not None:
        rows_job = ExamplesJob(
            source=events,
            out=str(out),
            format=format,
            label=label,
            split=split,
            keep_negatives=keep_negatives,
            seed=seed,
        )
        rows = prepare_rows(rows_job)
        found = {"data": str(out), "fingerprint": rows.fingerprint, "report": rows.report.to_dict()}
        return emit(f"{rows.report}\nwritten to {out}", found, json)

    job = PrepareJob(
        events=events,
        out=str(out),
        items=str(items) if items else None,
        users=str(users) if users else None,
        user_col=user_col,
        item_col=item_col,
        time_col=time_col,
        value_col=value_col,
        order_by=order_by,
        context=context,
        split=split,
        min_count=min_count,
        repeats=repeats,
        positive=positive,
        drop=drop,
        seed=seed,
    )
    data = prepare_dataset(job)
    found = {"data": str(out), "fingerprint": data.fingerprint, "report": data.report.to_dict()}
    return emit(f"{data.report}\nwritten to {out}", found, json)
