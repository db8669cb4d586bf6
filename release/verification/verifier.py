"""Victims learn from something published, and a report says what they came to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from release import cache, machine
from release.errors import InputError
from release.images import decode
from release.launch import Launcher, opened
from release.pages import COMPARED, PUBLISHED, write_page, write_report
from release.paths import absolute
from release.rank import Order
from release.source import Source
from release.survey import Survey
from release.terminal import Terminal, duration, now
from release.training import Asked, Published
from release.verification.options import VerifyOptions
from release.verification.plan import VerificationPlan
from release.verification.resolve import resolve
from release.workdir import Workdir

if TYPE_CHECKING:
    from evaluation.analyses import Findings
    from evaluation.integrity import Visibility
    from evaluation.report import Report, Subject
    from evaluation.trial import Outcome, TrialSpec

_COMPARED_ROWS = 1000
"""Visibility is measured on the first so many rows, as the page says: means hardly move with more,
but counts and the largest change are those of these rows."""
_COMPARED_BYTES = 256 << 20
_SHOWN = 16
_COMPARED = 8
Images = Sequence[tuple[np.ndarray | None, np.ndarray]]
"""Pixels (H,W,C) of rows: clean, where they are known, and released."""


@dataclass(frozen=True)
class Verified:
    """What a verification came to: its report, and the folder it lies in."""

    plan: VerificationPlan
    report: Report
    folder: Path


class Verifier:
    """One verification in one WORKDIR, by the ranks that `launcher` starts."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.workdir = launcher.workdir
        self.terminal = launcher.terminal

    def run(self, options: VerifyOptions) -> Verified:
        """Every training that is asked for and for which there is time was made, and the report
        says what they came to; run again, what is finished is kept."""
        out = None if options.out is None else absolute(options.out)
        with self._timed("plan"):
            plan = resolve(options, self.workdir, self.terminal)
            plan.save(self.workdir.verification)
        with self._timed("cache"):
            self._cache(plan)
        with self._timed("verify"):
            self._train(plan)
        with self._timed("report"):
            from cards.plots import middle

            report = self._report(plan, self._images(plan, self._compared_rows()))
            self._write(report, self._images(plan, _SHOWN, middle))
        if out is not None:
            shutil.copytree(self.workdir.report, out, dirs_exist_ok=True)
        return Verified(plan, report, out or self.workdir.report)

    def _cache(self, plan: VerificationPlan) -> None:
        """Everything that victims read is on disk at net size."""
        released, clean = self._rows(plan)
        numbers = _drawn(released, plan.rows)
        self._decoded(plan, plan.source, plan.split, "released", "protected", numbers, numbers)
        if plan.clean is not None and clean is not None:
            rows = clean[np.searchsorted(released, numbers)]
            self._decoded(plan, plan.clean, plan.clean_split, "clean", "clean", rows, numbers)
        test = self._survey("test").rows()
        self._decoded(plan, plan.test_source, plan.test_split, "test", "test", test, test)

    def _rows(self, plan: VerificationPlan) -> tuple[np.ndarray, np.ndarray | None]:
        """The released rows (ascending) that victims may train on, and the clean row of each, where
        there are clean ones."""
        if plan.pairs is None:
            return self._survey("released").rows(), None
        pairs = self.workdir.pairs(plan.pairs)
        return pairs[:, 0], pairs[:, 1]

    def _decoded(
        self,
        plan: VerificationPlan,
        source: dict[str, object],
        split: str,
        survey: str,
        part: str,
        rows: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        from evaluation.delivery import parse_delivery

        folder = self.workdir.cache(plan.data_key(), part)
        if folder.exists():
            return
        with self.terminal.stage(f"cache {part}") as tell:
            cache.build(
                Source.from_json(source).bare(),
                split=split,
                survey=Survey.load(self.workdir.survey(survey)),
                rows=rows,
                numbers=numbers,
                net_size=plan.net_size,
                folder=folder,
                num_classes=plan.num_classes,
                seed=0,
                # The clean test images are those that a model meets in use: they are not delivered.
                delivered=parse_delivery("" if part == "test" else plan.delivered_as),
                progress=tell,
            )

    def _train(self, plan: VerificationPlan) -> None:
        ground = Published(plan, self.workdir)
        missing = [spec for spec in plan.trials() if not ground.path(spec).exists()]
        asked = [text for text in plan.analyses if not ground.analysis_path(text).exists()]
        if not missing and not asked:
            return
        minutes = plan.budget_minutes
        deadline = None if minutes is None else time.time() + 60 * minutes
        Asked(missing, asked, deadline).save(self.workdir.asked_trials)
        ranks = max(1, min(plan.workers, len(missing) + len(asked)))
        threads = 1 if plan.device == "cpu" else 4
        order = Order(
            "verify-release", str(self.workdir.path), threads, plan.device, plan.hub_patience
        )
        self.launcher.run(order, ranks=ranks, unit="trainings", max_restarts=plan.max_restarts)

    def _report(self, plan: VerificationPlan, images: Images) -> Report:
        from evaluation.report import Gate, report_on

        ground = Published(plan, self.workdir)
        done, left_out = _found(plan.trials(), ground)
        findings = _findings(plan, ground)
        if not any(outcome.spec.data == "protected" for outcome in done):
            raise InputError(
                f"no training ended within --budget-minutes {plan.budget_minutes}: allow more; "
                "what is finished is kept"
            )
        return report_on(
            done,
            self._subject(plan),
            gate=Gate(max_accuracy=plan.max_accuracy),
            visibility=_visibility(images),
            hardware=machine.hardware(plan.device, plan.workers),
            versions=plan.versions,
            left_out=left_out,
            unexamined=[text for text in plan.analyses if text not in findings],
            analyses=findings,
        )

    def _subject(self, plan: VerificationPlan) -> Subject:
        from evaluation.report import Subject

        return Subject(
            name=plan.release,
            date=plan.date,
            class_names=plan.class_names,
            facts=plan.facts
            | {
                "split": plan.split,
                "verified_rows": plan.rows,
                "released_rows": len(self._rows(plan)[0]),
            },
            preset=plan.preset,
            test_split=plan.test_split,
            license=plan.license,
            surrogates=plan.surrogates,
            delivered_as=plan.delivered_as,
            labelled=plan.labelled,
            source_is_public=plan.source_is_public,
        )

    def _write(self, report: Report, images: Images) -> None:
        """The report as JSON and as a page, for everybody; with clean pixels for the owner."""
        from cards.plots import contact_sheet, protected_sheet

        folder, private = self.workdir.report, self.workdir.private
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        private.mkdir(exist_ok=True, mode=0o700)
        protected_sheet([after for _, after in images[:_SHOWN]], folder / "images.png")
        pairs = [
            (before, after)
            for before, after in images[:_COMPARED]
            if before is not None and before.shape == after.shape
        ]
        compared = {}
        if pairs:
            before, after = zip(*pairs, strict=True)
            contact_sheet(before, after, private / "compared.png")
            compared = {COMPARED: (private / "compared.png").read_bytes()}
        write_report(report, folder, {PUBLISHED: (folder / "images.png").read_bytes()})
        write_page(report, private / "report.html", compared)

    def _compared_rows(self) -> int:
        """As many rows as visibility is measured on, fewer of large images."""
        most = _COMPARED_BYTES // self._survey("released").bytes_per_row()
        return max(1, min(_COMPARED_ROWS, most))

    def _images(
        self,
        plan: VerificationPlan,
        count: int,
        shown: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> Images:
        """What is `shown` of the first rows as they are stored: clean, where there is one of that
        size, and released."""
        released, clean = (rows if rows is None else rows[:count] for rows in self._rows(plan))
        assert released is not None
        after = _stored(plan.source, plan.split, released, shown)
        if plan.clean is None or clean is None:
            return [(None, image) for image in after]
        before = _stored(plan.clean, plan.clean_split, clean, shown)
        sizes = self._survey("released").sizes[released] == self._survey("clean").sizes[clean]
        alike = sizes[:, 1:].all(axis=1)
        return [(b if same else None, a) for b, a, same in zip(before, after, alike, strict=True)]

    def _survey(self, name: str) -> Survey:
        return Survey.load(self.workdir.survey(name))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = now()
        yield
        self.workdir.note_seconds(stage, now() - started)
        self.terminal.line(f"{stage}: {duration(now() - started)}")


@contextmanager
def open_verifier(workdir: Workdir, terminal: Terminal) -> Iterator[Verifier | None]:
    """The verifier of a locked WORKDIR; None on a rank that follows one."""
    with opened(workdir, terminal) as launcher:
        yield None if launcher is None else Verifier(launcher)


def _drawn(rows: np.ndarray, count: int) -> np.ndarray:
    """So many of the rows, ascending, the same ones each time."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, count, replace=False))


def _stored(
    source: dict[str, object],
    split: str,
    rows: np.ndarray,
    shown: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray]:
    """What is `shown` of the pixels (H,W,C) of these rows, in their order."""
    wanted = {int(row) for row in rows}
    stored = Source.from_json(source).bare().rows(split, int(rows.min()), int(rows.max()) + 1)
    pixels = {r.number: shown(decode(r.image).pixels) for r in stored if r.number in wanted}
    return [pixels[int(row)] for row in rows]


def _visibility(images: Images) -> Visibility | None:
    """How far the images, as they are stored, lie from the clean ones; None where there are no
    clean ones, or they have other shapes."""
    from evaluation.integrity import measure

    clean = [before for before, _ in images if before is not None]
    protected = [after for _, after in images]
    if [image.shape for image in clean] != [image.shape for image in protected]:
        return None
    return measure(clean, protected)


def _found(specs: Sequence[TrialSpec], ground: Published) -> tuple[list[Outcome], list[TrialSpec]]:
    """What was made of the trainings that were asked for, and those that were not made."""
    from evaluation.trial import Outcome

    done, left_out = [], []
    for spec in specs:
        path = ground.path(spec)
        if path.exists():
            done.append(Outcome.from_json(json.loads(path.read_text())))
        else:
            left_out.append(spec)
    return done, left_out


def _findings(plan: VerificationPlan, ground: Published) -> dict[str, Findings]:
    from evaluation.analyses import Findings

    paths = {text: ground.analysis_path(text) for text in plan.analyses}
    return {
        text: Findings(**json.loads(path.read_text())).finite
        for text, path in paths.items()
        if path.exists()
    }
