"""The evidence of one step of a surface: pairs of one version of the model, and the gate's verdict on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from meshfold.compat.gate.gate import Gate
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.ramp.causes import Causes
from meshfold.compat.ramp.decisions import Judged
from meshfold.compat.shadow.pairs import OK, Pair, PairSide

# Users counted at most.
_MOST_USERS = 1_000_000
# Pairs kept at most until the store holds their snapshot; more are left out.
_MOST_WAITING = 20_000


class Evidence:
    """Pairs of one step with their gate.

    version: the model's version whose answers count; "" until one is known. trouble: why pairs wait; "" if none wait.
    older: number of pairs from before the step. latest_older_unix_ms: time of the latest of these.
    """

    def __init__(self, settings: GateSettings, surface: str, since_unix_ms: int, causes: Causes) -> None:
        """since_unix_ms: time of the first pair that may count."""
        self.version = ""
        self.trouble = ""
        self.older = self.latest_older_unix_ms = 0
        self._since_unix_ms = since_unix_ms
        self._settings = settings
        self._surface = surface
        self._causes = causes
        self._gate: Gate | None = None
        self._waiting: list[Pair] = []
        self._served: set[str] = set()
        # Number of differing items by cause, where causes were computed.
        self._causes_found: Counter[str] = Counter()

    def add(self, pairs: Sequence[Pair]) -> str:
        """Adds the pairs that count. Returns "", or another version than before if most of the pairs are of that
        version.

        In the second case no pair was added, and evidence has to begin anew.
        """
        own = [pair for pair in pairs if pair.surface == self._surface]
        counting = [pair for pair in own if pair.unix_ms >= self._since_unix_ms]
        older = [pair.unix_ms for pair in own if pair.unix_ms < self._since_unix_ms]
        self.older += len(older)
        self.latest_older_unix_ms = max(self.latest_older_unix_ms, *older, 0)
        versions = Counter(version for pair in counting if (version := _version(pair)))
        if versions:
            usual = versions.most_common(1)[0][0]
            if self.version and usual != self.version:
                return usual
            self.version = usual
        for pair in counting:
            if pair.served_by == PairSide.MODEL and len(self._served) < _MOST_USERS:
                self._served.add(pair.user_key or f"request {pair.request_id}")
        self._waiting += counting
        if counting:
            self._judge()
        return ""

    def judged(self) -> Judged | None:
        """The verdict so far; None before the first pair."""
        if self._waiting:
            self._judge()
        if self._gate is None:
            return None
        causes = dict(self._causes_found.most_common())
        return Judged(self._gate.verdict(), len(self._served), causes)

    def _judge(self) -> None:
        """Gives waiting pairs to the gate, once the store holds the snapshot for the eligibility check."""
        # The version is unknown if the model fails from the first pair on.
        version = self.version or self._causes.newest(self._surface)
        catalog = self._causes.catalog(self._surface, version)
        if catalog is None:
            del self._waiting[:-_MOST_WAITING]
            self.trouble = (
                f"the store does not hold the model's version {version or '(none)'}: nothing is judged until the plan "
                "names the store that the servers serve from"
            )
            return
        self.trouble = ""
        waiting = [pair for pair in self._waiting if _version(pair) in ("", self.version)]
        self._waiting = []
        if self._gate is None:
            self._gate = Gate(self._settings, self._surface, catalog)
        self._causes.notice(self._surface, version, waiting)
        wanted = [pair for pair in waiting if _differs(pair) and self._gate.wants_causes(pair)]
        explained = self._causes.of(self._surface, version, wanted)
        for pair in waiting:
            differences = explained.get(pair.request_id)
            self._causes_found.update(each.cause.value for each in differences or ())
            self._gate.add(pair, differences)


def _differs(pair: Pair) -> bool:
    mesh, model = pair.mesh, pair.model
    if mesh is None or model is None or not mesh.status == model.status == OK:
        return False
    return set(mesh.item_ids) != set(model.item_ids)


def _version(pair: Pair) -> str:
    """The version of the model's answer; "" without one."""
    return pair.model.version if pair.model is not None and pair.model.status == OK else ""
