"""The model's half of a chain: from the model's answer to the exact list."""

from __future__ import annotations

from meshfold.compat.shadow.attribution.chain import Chain
from meshfold.compat.shadow.attribution.cut import Cut
from meshfold.compat.shadow.attribution.model_lists import ModelLists
from meshfold.compat.shadow.attribution.question import Question
from meshfold.compat.shadow.attribution.ranking import Ranking
from meshfold.compat.shadow.attribution.suspects import list_of_faulty_filter
from meshfold.compat.shadow.catalog import Item, SnapshotCatalog, admission_of_query
from meshfold.compat.shadow.comparison import Cause


class ModelSide:
    def __init__(self, lists: ModelLists, catalog: SnapshotCatalog) -> None:
        self._lists = lists
        self._catalog = catalog
        self._excludes_history = lists.schema.exclude_history

    def chain(self, asked: Question, exact: Ranking) -> Chain:
        """The chain from the model's answer to the exact list. Raises InvalidQuery."""
        k = asked.k
        chain = Chain(asked.model_items)
        if exact.top(k) != asked.model_items:
            (served,) = self._lists.served([asked.query])
            if served.top(k) != asked.model_items:
                self._to_served(chain, asked, served)
            chain.add(exact.top(k), Cause.MODEL_ANN_MISS)
        return chain

    def _to_served(self, chain: Chain, asked: Question, served: Ranking) -> None:
        """Adds the steps to the list that the snapshot's index finds: another filter, another order."""
        k = asked.k
        answer: list[Item] = [*asked.model.item_ids]
        violators = self._catalog.not_admitted(
            admission_of_query(asked.query, self._excludes_history), answer
        )
        faulty = list_of_faulty_filter(
            self._catalog, asked.query, violators, asked.model_items, self._lists.served
        )
        filtered = faulty or served
        missing = [i for i in violators if i not in filtered.value_of]
        filtered = filtered.changed((), self._lists.values(asked.query, missing))
        beyond = [i for i in answer if i not in filtered.value_of]
        known = [i for i, known in zip(beyond, self._lists.knows(beyond), strict=True) if known]
        values = self._lists.values(asked.query, known)
        cut = Cut(answer, asked.model.scores, filtered, k, values, _unknown)
        chain.add(filtered.top(k), cut.cause_of)
        chain.add(served.top(k), Cause.MODEL_FILTER)


def _unknown(_: Item) -> Cause:
    return Cause.UNKNOWN
