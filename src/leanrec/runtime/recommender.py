"""The Recommender: Request -> Ranking. Evaluation, benchmarks, Python and HTTP run this same object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries, Ranking, Request
from leanrec.events.base import HistoryStore
from leanrec.runtime.answering import Answering, KeptAnswers
from leanrec.runtime.base import Source
from leanrec.runtime.bundle import Bundle, bundle_id, history_folder, open_bundle, resolve_bundle, write_bundle
from leanrec.runtime.explain import responsible
from leanrec.runtime.frames import read_histories, read_users
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.packing import load_histories, pack, save_histories, unpack

if TYPE_CHECKING:
    from leanrec.features.items import ItemAttributes

__all__ = ["Recommender", "UnknownItem"]

_BATCH = 1024


class UnknownItem(InputError):
    """An item id that the model does not know, where it has to."""

    def __init__(self, item: object) -> None:
        self.item = item
        super().__init__(f"item {item!r} is not in the catalogue of this model: leave it out, or train again with it")


class Recommender:
    """A source of answers with ids, histories, filters and a fallback; batches and single requests agree.

    repeats: whether items a user has seen may be recommended, unless a request says otherwise.
    fallback: answers where nothing is known of a user, or the source finds nothing; such answers are `degraded`.
    users: those whose rows the source knows, when it keeps something for each (`Source.personal`).
    newcomers: what makes vectors of items that are added later, see `Model.add_items`; None where nothing can.
    card, lineage: plain values for people: what it is, how it was made. certificate: what compression cost, if any.
    answering: how a process should answer with it; None where nobody found out, which is what `Answering()` says.
    """

    def __init__(
        self,
        source: Source,
        items: Vocabulary,
        *,
        repeats: bool,
        fallback: Source | None = None,
        users: Vocabulary | None = None,
        attributes: ItemAttributes | None = None,
        histories: HistoryStore | None = None,
        card: Mapping[str, Any] | None = None,
        lineage: Mapping[str, Any] | None = None,
        certificate: Mapping[str, Any] | None = None,
        newcomers: Newcomers | None = None,
        answering: Answering | None = None,
    ) -> None:
        for one in (source, fallback):
            assert one is None or one.num_items == len(items), "every source covers the vocabulary"
        assert (len(users) if users is not None else None) == (source.num_users if source.personal else None), (
            "a source that keeps something for each user needs their ids"
        )
        self.source, self.items, self.repeats, self.fallback, self.users = source, items, repeats, fallback, users
        self.attributes, self.histories, self.newcomers = attributes, histories, newcomers
        self.learned: Any = None
        """What `Model.partial_fit` goes on from where the source does not hold it; never part of the bundle."""
        self.card, self.lineage, self.certificate = dict(card or {}), dict(lineage or {}), certificate
        self.answering = answering
        self.kept: KeptAnswers | None = None
        """Answers kept in this process, where it was told to keep any."""

    def settle(self, answering: Answering) -> None:
        """Answer so from now on, in the thread that calls this."""
        answering.settle()
        self.kept = KeptAnswers(answering.kept_answers) if answering.kept_answers else None

    def rank(
        self,
        histories: Jagged,
        k: int,
        *,
        include_seen: bool | None = None,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
        times: Jagged | None = None,
        users: npt.NDArray[np.int32] | None = None,
        context: Mapping[str, Sequence[Any]] | None = None,
    ) -> tuple[Hits, npt.NDArray[np.bool_]]:
        """Rows in, rows out: (B, k) answers, and (B,) which of them are degraded.

        histories: (B) int32 item rows, oldest first; may be empty. exclude: (B) rows never answered, or None.
        times: Unix seconds in the layout of histories, for models that look at them, or None. users: (B,) rows of
        `self.users`, -1 where unknown, or None. context: column -> B raw values, or None.
        """
        if k < 1:
            raise InputError(f"k is the number of items wanted, at least 1, not {k}")
        if not len(histories):
            return Hits.none(0, k), np.zeros(0, np.bool_)
        include = self.repeats if include_seen is None else include_seen
        if self._alive is not None:
            allowed_N = self._alive if allowed_N is None else allowed_N & self._alive
        skip = exclude
        if not include:
            skip = histories if exclude is None else _joined(histories, exclude)
        queries = Queries(histories, k, skip, allowed_N, times, users, context)
        if len(queries) <= _BATCH:
            return self._search(queries)
        parts = [
            self._search(queries.take(np.arange(start, min(start + _BATCH, len(queries)))))
            for start in range(0, len(queries), _BATCH)
        ]
        found = [hits for hits, _ in parts]
        brought = [np.zeros(h.items_BK.shape, np.int8) if h.brought_BK is None else h.brought_BK for h in found]
        hits = Hits(
            np.concatenate([h.items_BK for h in found]),
            np.concatenate([h.scores_BK for h in found]),
            None if found[0].brought_BK is None else np.concatenate(brought),
        )
        return hits, np.concatenate([degraded_B for _, degraded_B in parts])

    def _search(self, queries: Queries) -> tuple[Hits, npt.NDArray[np.bool_]]:
        hits = self.source.search(queries) if self.kept is None else self.kept.search(self.source, queries)
        degraded_B = queries.histories.lengths == 0
        if self.source.personal and queries.users is not None:
            degraded_B = degraded_B & (queries.users < 0)
        if self.fallback is None:
            return hits, degraded_B
        ask = np.flatnonzero(degraded_B | (hits.items_BK[:, 0] < 0))
        if not len(ask):
            return hits, degraded_B
        other = self.fallback.search(queries.take(ask))
        items_BK, scores_BK = hits.items_BK.copy(), hits.scores_BK.copy()
        items_BK[ask], scores_BK[ask] = other.items_BK, other.scores_BK
        brought_BK = hits.brought_BK
        if brought_BK is not None:
            brought_BK = brought_BK.copy()
            brought_BK[ask] = 0 if other.brought_BK is None else other.brought_BK
        degraded_B[ask] |= other.items_BK[:, 0] >= 0
        return Hits(items_BK, scores_BK, brought_BK), degraded_B

    def answer(self, requests: Sequence[Request]) -> list[Ranking]:
        """Ids in, ids out. UnknownItem for an id in a bare history that the model does not know.

        An unknown user is answered by the fallback. Unknown ids in `exclude` are ignored: they cannot be answered.
        """
        histories = [self._history(request) for request in requests]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            wanted = tuple((column, tuple(values)) for column, values in sorted(request.filter.items()))
            groups.setdefault((request.k, request.include_seen, wanted), []).append(place)
        rankings: dict[int, Ranking] = {}
        for (k, include_seen, _), places in groups.items():
            hits, degraded_B = self.rank(
                Jagged.from_rows([histories[place] for place in places]),
                self._bounded(k),
                include_seen=include_seen,
                exclude=Jagged.from_rows([self._known(requests[place].exclude) for place in places]),
                allowed_N=self._allowed(requests[places[0]].filter),
                users=self._user_rows([requests[place] for place in places]),
                context=_columns([requests[place].context for place in places]),
            )
            for row, place in enumerate(places):
                why = self._why(histories[place], hits.items_BK[row]) if requests[place].explain else None
                rankings[place] = self._ranking(hits, row, bool(degraded_B[row]), why)
        return [rankings[place] for place in range(len(requests))]

    def recommend(
        self,
        users: Any = None,
        *,
        histories: Any = None,
        k: int = 10,
        include_seen: bool | None = None,
        exclude: Sequence[Id] | None = None,
        filter: Mapping[str, Sequence[str]] | None = None,
    ) -> Any:
        """A table of user_id (or query), item_id, score, rank, in the caller's frame type (Polars by default).

        users: a list, a column or a table; distinct users are answered in order of first appearance; all known users
        when neither users nor histories are given. histories: lists of item ids, or a table of user_id and item_id.
        exclude: items never answered to anyone. filter: item attribute -> accepted values.
        """
        if histories is not None:
            asked, lists = read_histories(histories)
            known = None
            rows = [self._rows(history) for history in lists]
        else:
            asked = read_users(self._store().users() if users is None else users)
            rows = [self._of_user(user) for user in asked.ids]
            known = None if self.users is None else self.users.rows(asked.ids)
        never = self._known(exclude or ())
        hits, _ = self.rank(
            Jagged.from_rows(rows),
            self._bounded(k),
            include_seen=include_seen,
            exclude=Jagged.from_rows([never] * len(rows)) if len(never) else None,
            allowed_N=self._allowed(filter or {}),
            users=known,
        )
        found_BK = hits.items_BK >= 0
        return asked.answer(found_BK.sum(axis=1), self.items.ids(hits.items_BK[found_BK]), hits.scores_BK[found_BK])

    def score(self, requests: Sequence[Request], items: Sequence[Sequence[Id]]) -> list[list[float]]:
        """The scores of items[i] for requests[i]; by the fallback where nothing is known of the user."""
        assert len(requests) == len(items), "one list of items per request"
        histories = Jagged.from_rows([self._history(request) for request in requests])
        wanted = Jagged.from_rows([self._rows(some) for some in items])
        users, context = self._user_rows(requests), _columns([request.context for request in requests])
        queries = Queries(histories, 1, users=users, context=context)
        scores_T = self.source.score(queries, wanted)
        if self.fallback is not None:
            unknown_B = histories.lengths == 0 if users is None else (histories.lengths == 0) & (users < 0)
            unknown_T = unknown_B[wanted.row_of()]
            if unknown_T.any():
                scores_T = np.where(unknown_T, self.fallback.score(queries, wanted), scores_T)
        return [scores.tolist() for scores in Jagged(scores_T, wanted.offsets)]

    def similar(self, item_id: Id, k: int = 10) -> Ranking:
        """Items most like one item. UnknownItem when the model does not know it."""
        erased = self.items.erased
        hits = self.source.similar(int(self._rows([item_id])[0]), self._bounded(k + int(erased.sum())))
        keep_K = (hits.items_BK[0] >= 0) & ~erased[hits.items_BK[0]]
        return self._ranking(Hits(hits.items_BK[:, keep_K][:, :k], hits.scores_BK[:, keep_K][:, :k]), 0, False)

    @cached_property
    def id(self) -> str:
        """SHA-256 of what the recommender is: the id of its bundle, saved or not."""
        return bundle_id(*pack(self))

    def save(self, path: str | Path) -> str:
        """Write the bundle, and the histories of known users beside it; the bundle's id."""
        files, recommender = pack(self)
        saved = write_bundle(
            path, files, recommender, lineage=self.lineage, card=self.card, certificate=self.certificate
        )
        if self.histories is not None:
            save_histories(self.histories, history_folder(path), self.items)
        return saved

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """From a bundle or a run folder, with the histories beside it when they are there."""
        folder = resolve_bundle(path)
        recommender = cls.from_bundle(open_bundle(folder))
        recommender.histories = load_histories(history_folder(folder))
        return recommender

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """From a verified bundle; a BundleError when its parts do not fit together."""
        recommender = cls(**unpack(bundle))
        recommender.id = bundle.id
        return recommender

    def _why(self, history: npt.NDArray[np.int32], items_K: npt.NDArray[np.int32]) -> list[Id | None]:
        rows = responsible(self.source, history, items_K[items_K >= 0])
        return [self.items.ids([row])[0] if row >= 0 else None for row in rows]

    def _ranking(self, hits: Hits, row: int, degraded: bool, why: list[Id | None] | None = None) -> Ranking:
        items_K = hits.items_BK[row]
        found = int((items_K >= 0).sum())
        source = self.fallback if degraded and self.fallback is not None else self.source
        if hits.brought_BK is None:
            names = [source.name] * found
        else:
            names = [source.brings[part] for part in hits.brought_BK[row, :found].tolist()]
        return Ranking(self.items.ids(items_K[:found]), hits.scores_BK[row, :found].tolist(), names, degraded, why)

    def _history(self, request: Request) -> npt.NDArray[np.int32]:
        if request.history is not None:
            return self._rows(request.history)
        return self._of_user(request.user_id)

    def _of_user(self, user: Id | None) -> npt.NDArray[np.int32]:
        ids = None if user is None or self.histories is None else self.histories.get(user)
        return self._known(ids or ())

    def _user_rows(self, requests: Sequence[Request]) -> npt.NDArray[np.int32] | None:
        """A bare history is nobody's, even when a user is named beside it."""
        if self.users is None:
            return None
        rows = np.full(len(requests), -1, np.int32)
        for place, request in enumerate(requests):
            if request.user_id is not None and (request.history is None or request.resolved):
                rows[place] = self.users.row(request.user_id)
        return rows

    def _rows(self, ids: Sequence[Id]) -> npt.NDArray[np.int32]:
        rows = self.items.rows(ids)
        if len(rows) and rows.min() < 0:
            raise UnknownItem(ids[int(rows.argmin())])
        return rows

    def _known(self, ids: Sequence[Id]) -> npt.NDArray[np.int32]:
        rows = self.items.rows(ids)
        return rows[rows >= 0]

    def _bounded(self, k: int) -> int:
        return min(k, max(len(self.items), 1))

    def _allowed(self, wanted: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_] | None:
        if not wanted:
            return None
        if self.attributes is None:
            raise InputError("this model knows no item attributes to filter by: prepare its data with --items")
        return self.attributes.allowed(wanted)

    @cached_property
    def _alive(self) -> npt.NDArray[np.bool_] | None:
        """Erased items are never answered."""
        return ~self.items.erased if self.items.erased.any() else None

    def _store(self) -> HistoryStore:
        if self.histories is None:
            raise InputError("no histories of known users are at hand: name users or give histories")
        return self.histories


def _joined(some: Jagged, more: Jagged) -> Jagged:
    """Row by row, the values of both, in rising order."""
    rows = np.concatenate([some.row_of(), more.row_of()])
    values = np.concatenate([some.values, more.values])
    return Jagged.from_lengths(values[np.lexsort((values, rows))], some.lengths + more.lengths)


def _columns(contexts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    """By column, None where a context does not say; None when no context says anything."""
    names = dict.fromkeys(name for context in contexts for name in context)
    return {name: [context.get(name) for context in contexts] for name in names} or None
