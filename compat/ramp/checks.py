"""Checks that the servers of a plan give the evidence that its steps wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from meshfold.compat.migration.client import Compared
from meshfold.compat.migration.modes import Kind
from meshfold.compat.ramp.plan import Plan
from meshfold.compat.ramp.servers import Look
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.model.errors import Unprepared
from meshfold.model.store import Store

# Time for a connection to a service of the mesh.
_CONNECT_S = 2.0


@dataclass
class Checked:
    """Findings, a sentence each with its remedy. wrong: the plan would wait for ever. doubtful: it would see less."""

    wrong: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    def refuse(self) -> None:
        """Raises Unprepared if anything is wrong."""
        if self.wrong:
            raise Unprepared("; ".join(self.wrong))


def check(plan: Plan, looks: Mapping[str, Look]) -> Checked:
    found = Checked()
    for look in looks.values():
        _check_server(plan, look, len(looks), found)
    for surface in plan.surfaces:
        if not _published(plan.store, surface):
            found.wrong.append(
                f"the store {plan.store} holds no snapshot of {surface!r}, so that eligibility cannot be checked: name "
                "the store that the servers serve from"
            )
    _check_mesh(plan.mesh, found)
    return found


def _check_server(plan: Plan, look: Look, servers: int, found: Checked) -> None:
    wrong, doubtful = found.wrong, found.doubtful
    if look.shown is None:
        wrong.append(look.trouble)
        return
    where = look.address
    for surface in plan.surfaces:
        if surface not in look.shown.served:
            wrong.append(
                f"{where} does not serve {surface!r}: publish it with `meshfold build`, or leave it out of surfaces"
            )
    compared = look.shown.compared
    if compared is None or not compared.on:
        wrong.append(f"{where} compares nothing: start it with --comparison-on true")
        return
    for surface in plan.surfaces:
        if compared.share_of(surface) <= 0:
            wrong.append(
                f"{where} compares no call of {surface!r}: raise comparison.share or its surface_shares"
            )
    if compared.noise_share <= 0:
        wrong.append(
            f"{where} never asks the mesh twice, and without its noise nothing is decided: set comparison.noise_share, "
            "such as 0.2"
        )
    if compared.canary_share <= 0 and any(step.kind is Kind.CANARY for step in plan.steps):
        wrong.append(f"{where} compares nothing in a canary: set comparison.canary_share, such as 0.1")
    if "user_key" in compared.omit:
        wrong.append(
            f"{where} leaves user_key out of pairs (comparison.omit), and intervals are over users: keep it"
        )
    if not compared.has_key:
        text = f"{where} has no comparison.key_file: users count as others after each restart"
        doubtful.append(
            text + (" and on each server" if servers > 1 else "") + " (`meshfold shadow key --out FILE`)"
        )
    if not compared.keep_requests:
        wrong.append(
            f"{where} keeps no requests, and without them causes of differences are unknown: set "
            "comparison.keep_requests"
        )
    if compared.file_age_s > max(60.0, min(plan.hold_s)):
        doubtful.append(f"{where} writes pairs every {compared.file_age_s:g} s only (comparison.file_age_s)")
    _check_folder(plan, compared, where, doubtful)


def _check_folder(plan: Plan, compared: Compared, where: str, doubtful: list[str]) -> None:
    """Compares folders; a server on another machine may have another name for the folder."""
    name = Path(compared.folder).name
    if all(folder.name != name for folder in plan.pairs):
        doubtful.append(
            f"{where} writes pairs to {compared.folder}, which is none of {', '.join(map(str, plan.pairs))}: name it "
            "in pairs, unless it is another name of one of them"
        )


def _published(store: Path, surface: str) -> bool:
    try:
        return bool(Store(store).published(surface))
    except OSError:
        return False


def _check_mesh(mesh: MeshFacts, found: Checked) -> None:
    """Checks the connections to the mesh's services, which give causes of differences."""
    for name in ("tower", "retrieval", "scoring"):
        address = getattr(mesh, name)
        if address and not _answers(address):
            found.doubtful.append(
                f"the mesh's {name} at {address} does not answer, and the causes that need it stay unknown: mend "
                "[mesh] in the plan, or leave it out"
            )


def _answers(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(_CONNECT_S)
        except grpc.FutureTimeoutError:
            return False
    return True
