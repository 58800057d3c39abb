"""Files in the exact formats of Criteo and Avazu, with rows that are easy to predict from one column."""

from __future__ import annotations

from pathlib import Path

import numpy as np

AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,device_ip,"
    "device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)


def write_criteo(path: Path, rows: int, *, seed: int = 0) -> np.ndarray:
    """label, I1..I13, C1..C26, tabs, no header, about a fifth of the values missing; the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.25).astype(int)
    with path.open("w", encoding="ascii") as file:
        for label in labels:
            numbers = [str(n) for n in np.floor(rng.exponential(5 + 20 * label, 13)).astype(int) - 2]
            categories = [f"{hash_ * 2654435761 % 2**32:08x}" for hash_ in rng.integers(0, 40, 26)]
            fields = [value if rng.random() > 0.2 else "" for value in numbers + categories]
            file.write("\t".join([str(label), *fields]) + "\n")
    return labels


def write_avazu(path: Path, rows: int, *, days: int = 4, seed: int = 0) -> np.ndarray:
    """24 columns with a header, rows by hour from 2014-10-21; the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.17).astype(int)
    hours = np.sort(rng.integers(0, 24 * days, rows))
    with path.open("w", encoding="ascii") as file:
        file.write(AVAZU_HEADER + "\n")
        for row, (label, hour) in enumerate(zip(labels, hours, strict=True)):
            texts = [f"{n * 2654435761 % 2**32:08x}" for n in rng.integers(0, 30, 9)]
            anonymous = [str(n) for n in rng.integers(0, 500, 8)]
            first = [f"1000000{row:012d}", str(label), f"1410{21 + hour // 24:02d}{hour % 24:02d}", "1005", "0"]
            file.write(",".join([*first, *texts, "1", "0", *anonymous]) + "\n")
    return labels
