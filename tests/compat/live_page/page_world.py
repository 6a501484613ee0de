"""Facts of surfaces in all states that the page shows, of our own making, the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from meshfold.compat.gate.verdict import Decision, Reason, Verdict
from meshfold.compat.live_page.facts import Details, PageFacts, SurfaceFacts
from meshfold.compat.migration.modes import Change, Kind, Mode
from meshfold.compat.ramp.audit_log import Action, AuditEntry, By
from meshfold.compat.ramp.status import State, Status
from meshfold.compat.shadow.live.history import Point
from meshfold.compat.shadow.live.latency_steps import step_of
from meshfold.compat.shadow.live.tally import Tally

NOW_MS = 1_796_000_400_000
STEPS = ("mirror", "canary 1 %", "canary 5 %", "canary 25 %", "canary 50 %", "serve")
LONG_NAME = "because-you-watched-something-with-a-very-long-title-that-never-ends-and-has-no-place-to-break"


class MadeSource:
    """Shows what it is given."""

    def __init__(self, surfaces: Sequence[SurfaceFacts], **more: object) -> None:
        self.given = PageFacts(
            surfaces, NOW_MS, "Figures are of this server's calls.", "in the last 15 minutes"
        )
        self.given = replace(self.given, **more)  # type: ignore[arg-type]
        self.shown = Details("", "The details are being computed.")

    def facts(self) -> PageFacts:
        return self.given

    def details(self, surface: str) -> Details:
        return self.shown


def surface(
    name: str,
    overlap: float = 0.93,
    noise: float = 0.941,
    mode: Mode | None = None,
    seed: int = 0,
    minutes: int = 60,
    **more: object,
) -> SurfaceFacts:
    """With traffic, and agreement over time that falls to `overlap` within the last quarter."""
    chance = random.Random(f"{name!a}{seed}")
    tally = Tally()
    tally.pairs.update(compared=11_480, mesh_failed=3)
    tally.again, tally.noise_overlap = 1204, 1204 * noise
    tally.checked.update(mesh=1_148_000, model=1_147_312)
    tally.violations.update(mesh=37)
    for _ in range(2000):
        tally.latencies["mesh"][step_of(chance.lognormvariate(3.1, 0.5))] += 1
        tally.latencies["model"][step_of(chance.lognormvariate(1.6, 0.3))] += 1
    tally.recent = {
        "overlap": overlap,
        "noise_overlap": noise,
        "excess_overlap": overlap - noise,
        "noise_width": 0.012,
    }
    points = []
    for step in range(6 * minutes):
        late = step > 4.5 * minutes
        points.append(
            Point(
                NOW_MS / 1000 - 60 * minutes + 10 * step,
                10.0,
                pairs=chance.randint(100, 140),
                mesh_failed=0,
                model_failed=0,
                again=12,
                overlap=min(1.0, (overlap if late else 0.934) + chance.gauss(0, 0.004)),
                noise=min(1.0, noise + chance.gauss(0, 0.006)),
                mesh_violations=0,
                model_violations=0,
                mesh_p50_ms=chance.gauss(22, 1),
                mesh_p99_ms=chance.gauss(85, 9),
                model_p50_ms=chance.gauss(5, 0.2),
                model_p99_ms=chance.gauss(11, 1),
            )
        )
    own = mode or Mode(Kind.MIRROR)
    changes = [Change(name[:1000], own, "ines", "first comparison", NOW_MS - 7_200_000)]
    facts = SurfaceFacts(name, tally, points, own, changes)
    return replace(facts, **more)  # type: ignore[arg-type]


def quiet(name: str, kind: Kind = Kind.MESH) -> SurfaceFacts:
    """Without a pair."""
    return SurfaceFacts(name, mode=Mode(kind))


def violating(name: str) -> SurfaceFacts:
    made = surface(name)
    made.now.violations["model"] = 412
    return made


def failing(name: str) -> SurfaceFacts:
    made = surface(name)
    made.now.pairs.update(model_failed=300)
    return made


def unknown_noise(name: str) -> SurfaceFacts:
    made = surface(name)
    made.now.recent = {"overlap": 0.93}
    return replace(made, points=[replace(p, noise=math.nan) for p in made.points])


def ramped(name: str, state: State = State.RUNNING, step: int = 3) -> SurfaceFacts:
    """On a ramp. Where it fell back the gate said no."""
    is_no = state is State.FALLEN_BACK
    decision = Decision.NO if is_no else Decision.NOT_ENOUGH
    reasons = (
        Reason(
            "overlap@100",
            Decision.NO if is_no else Decision.YES,
            "The model shares 86.1% with the mesh, the mesh 94.1% with itself: 8.0 points less, with a margin of 2. "
            "Look at the causes."
            if is_no
            else "The model shares 93.4% with the mesh, the mesh 94.1% with itself: within the margin of 2 points.",
        ),
        Reason("p99", Decision.NOT_ENOUGH, "312 answers of the model are too few for a p99 within 20 ms."),
        Reason("violations", Decision.YES, "None of 31,200 items of the model violates a filter."),
    )
    verdict = Verdict(name, decision, reasons, 11_480, 1204, 1877, NOW_MS - 900_000, NOW_MS)
    reason = {
        State.RUNNING: "The step holds until the gate has seen enough.",
        State.PAUSED: "ines paused it: the on-call changes at noon.",
        State.FALLEN_BACK: "the gate said no in step canary 25 %: overlap@100 is 8.0 points below the mesh's own.",
        State.DONE: "All steps were passed.",
        State.ABORTED: "ines aborted it.",
    }[state]
    mode = Mode(Kind.MIRROR) if is_no else Mode(Kind.CANARY, 25)
    status = Status(
        name,
        0 if is_no else step,
        STEPS,
        str(mode),
        state,
        NOW_MS - 900_000,
        NOW_MS + 2_700_000,
        verdict,
        reason,
    )
    decisions = [
        AuditEntry(
            *(7, "a1b2c3d4", NOW_MS - 60_000, name, 0, Action.FALL_BACK, "canary 25 %", "mirror"),
            *(By.GATE, "", reason, verdict.to_json(), 412),
        )
        if is_no
        else AuditEntry(
            *(7, "a1b2c3d4", NOW_MS - 900_000, name, 3, Action.PROMOTE, "canary 5 %", "canary 25 %"),
            *(By.GATE, "", "All bounds hold.", verdict.to_json(), 98),
        )
    ]
    made = surface(name, overlap=0.861 if is_no else 0.934, mode=mode)
    change = Change(name[:1000], mode, "ramp", f"{decisions[0].tag} {reason}"[:1000], NOW_MS - 60_000)
    return replace(made, ramp=status, decisions=decisions, changes=[change, *made.changes])


def many() -> list[SurfaceFacts]:
    return [
        surface("home"),
        surface("search", overlap=0.88),
        violating("kids"),
        failing("live-tv"),
        unknown_noise("trailers"),
        ramped("feed"),
        ramped("because-you-watched", State.PAUSED),
        ramped("new-releases", State.FALLEN_BACK),
        quiet("charts", Kind.ONLY),
        quiet("editorial"),
        surface(LONG_NAME),
        *(surface(f"genre-{n:02d}", overlap=0.935, minutes=20) for n in range(8)),
    ]
