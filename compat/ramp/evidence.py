"""The evidence of one step of a surface: pairs of one version of the model, and what the gate says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from meshfold.compat.gate.gate import Gate
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.ramp.causes import Causes
from meshfold.compat.ramp.decisions import Judged
from meshfold.compat.shadow.pairs import OK, Pair, PairSide

# Users that are told apart; more are not counted.
_MOST_USERS = 1_000_000
# Pairs that wait for a snapshot that the store does not hold yet; more are left out.
_MOST_WAITING = 20_000


class Evidence:
    """version: of the model, whose answers count; "" until one is known. trouble: why pairs wait; "" where none do.
    older: pairs that came while the step goes on, and are from before it. latest_older_unix_ms: of them."""

    def __init__(self, settings: GateSettings, surface: str, since_unix_ms: int, causes: Causes) -> None:
        """since_unix_ms: pairs from then on count."""
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
        # Of differing items, as far as they were looked for.
        self._causes_found: Counter[str] = Counter()

    def add(self, pairs: Sequence[Pair]) -> str:
        """Takes in those pairs that count. The version that most of them are of, where that is another than before:
        then none was taken in, and evidence has to begin anew. Else ""."""
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
        """None where no pair counted yet."""
        if self._waiting:
            self._judge()
        if self._gate is None:
            return None
        causes = dict(self._causes_found.most_common())
        return Judged(self._gate.verdict(), len(self._served), causes)

    def _judge(self) -> None:
        """Hands what waits to the gate, once the snapshot is there by which eligibility is checked."""
        # A model that fails from the first pair on tells no version.
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
    """Of the model's answer; "" where it gave none."""
    return pair.model.version if pair.model is not None and pair.model.status == OK else ""
