"""A verification becomes part of the dataset that it is about: a report, and a line on the card."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cards.facts import Measured, Verification
from cards.verified import add_verification
from release import __version__
from release.errors import HubRefused
from release.manifest import digest
from release.publish import CARD, HeadMoved, Published, target_of
from release.verification.verifier import Verified
from release.workdir import Workdir

_EDITS = 5
"""How often the card is edited anew because somebody changed the dataset meanwhile."""


@dataclass(frozen=True)
class Added:
    """Where readers can look at what was added, and the folder of the report within the dataset."""

    place: str
    folder: str


def publish_verification(verified: Verified, workdir: Workdir) -> Added:
    """Readers of the release, which is one of this tool, see the dated report, and a line about it
    on the card."""
    plan = verified.plan
    name = f"hf://datasets/{plan.target}" if plan.on_hub else plan.target
    folder = _folder(verified, workdir)
    target = target_of(name, name, revision=plan.branch, patience=plan.hub_patience)
    for _ in range(_EDITS):
        after = target.published()
        staged = _staged(verified, workdir, after, folder)
        try:
            place = target.add(staged, f"protect-release: verified {plan.date}", after)
            return Added(place, folder)
        except HeadMoved:
            continue
    raise HubRefused(
        f"{plan.release} was changed {_EDITS} times while the report was added: run the same "
        "command again; nothing is lost"
    )


def _folder(verified: Verified, workdir: Workdir) -> str:
    """By what the report says: another one of the same day stands beside it, the same one adds
    nothing."""
    said = digest((workdir.report / "report.json").read_bytes())
    return f"reports/verified-{verified.plan.date}-{said[:8]}"


def _staged(verified: Verified, workdir: Workdir, after: Published, folder: str) -> Path:
    """What is added, as readers will find it."""
    making, plan = workdir.path / "verification", verified.plan
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(workdir.report, making / folder)
    row = Verification(
        date=plan.date,
        tool=f"protect-release {__version__}",
        report=f"{folder}/report.html",
        sentence=_sentence(verified),
        measured=[Measured(**summary._asdict()) for summary in verified.report.summaries],
    )
    (making / CARD).write_bytes(add_verification(after.readme, row).encode())
    return making


def _sentence(verified: Verified) -> str:
    verdict, plan = verified.report.verdict, verified.plan
    delivered = f", delivered as {plan.delivered_as}" if plan.delivered_as else ""
    found = (
        "no victim that the gate looks at had a clean twin" if verdict is None else verdict.reason
    )
    return f"{found}{delivered}."
