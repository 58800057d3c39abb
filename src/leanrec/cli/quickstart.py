"""`leanrec quickstart`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Flag, Json, Settings
from leanrec.cli.output import emit
from leanrec.core.console import say

__all__ = ["quickstart"]


def quickstart(
    *,
    data: str = "ml-100k",
    out: Path = Path("quickstart"),
    model: str = "esasrec",
    settings: Settings = (),
    seed: int = 0,
    serve: Flag = False,
    json: Json = False,
) -> int:
    """From nothing to a measured, shrunken recommender that answers: get data, prepare, train, evaluate, compress, ask.

    Args:
        data: A public data set (ml-100k, ml-1m, amazon-beauty, ...), a log of events, or a prepared data set.
        out: The folder for data, runs and bundles.
        model: What to train beside the baselines.
        settings: One setting of the model; may stand several times.
        seed: Everything random follows from it.
        serve: Start the server at the end.
    """
    import msgspec

    from leanrec.core.config import parse_overrides
    from leanrec.jobs.quickstart import QuickstartJob
    from leanrec.jobs.quickstart import quickstart as carry_out

    job = QuickstartJob(data=data, out=str(out), model=model, settings=parse_overrides(settings), seed=seed)

    def show(text: str) -> None:
        say(f"\n{text}\n") if json else print(f"\n{text}\n", flush=True)

    found = carry_out(job, show)
    if serve:
        from leanrec.serving.server import serve as listen

        listen(out / f"{model}-int8")
    return emit("", msgspec.to_builtins(found), json)
