"""`leanrec serve`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Json
from leanrec.cli.output import emit

__all__ = ["serve"]


def serve(
    bundle: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    store: str | None = None,
    config: Path | None = None,
    json: Json = False,
) -> int:
    """Answer over HTTP until SIGTERM or Ctrl-C; what is under way is finished first.

    Args:
        bundle: A bundle or a run folder.
        host: The address to listen on; another than this machine's own needs keys in --config.
        port: The port; 0 takes a free one.
        store: The URL of the event store (default: sqlite, in a file beside the bundle).
        config: A TOML file of keys, limits and caps.
    """
    from leanrec.serving.server import serve as listen

    listen(bundle, host=host, port=port, store=store, config=config)
    return emit("", {"bundle": str(bundle), "status": "stopped"}, json)
