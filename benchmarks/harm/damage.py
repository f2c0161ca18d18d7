"""Damage: every kind of file of a run in every way, and what check, report and run then make of it."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harm.commands import Ended, Place, forked
from harm.finished import Results, finished, harms
from harm.fixtures import RUN, STORE, WORK, Fixture, Fixtures, places, rows
from harm.outcome import Outcome, judge_end
from harm.surroundings import changes, make_victim, state
from harm.ways import HARMLESS, OF_FILES, OF_FOLDERS, Way

# These are made anew from the others.
DERIVED = ("results.csv", "results.parquet", "report.", "cohorts.folder", ".lock")
LIMIT_S = 30.0
# Ways that change nothing but what is in a file, of which one is enough where nothing reads it.
CONTENTS = ("half", "flip", "text", "object", "list")
# So often what a refusal says is to be deleted is deleted.
TRIES = 4
ADVICE = re.compile(r"\bdelete (\S+?)[.,:;]?(?=\s|$)", re.IGNORECASE)
# By this a run says that weights or logits are not there, as in a run that was published.
WARNED = "of finished nodes are missing"
OWN = (f"{WORK}/{RUN}", f"{WORK}/{STORE}", f"{WORK}/tmp")


@dataclass(frozen=True)
class Damage:
    """One file or folder of a fixture, damaged in one way."""

    fixture: str
    kind: str
    path: Path
    how: str
    way: Way
    seed: int

    @property
    def name(self) -> str:
        return f"damage/{self.fixture}-{self.kind}/{self.how}"

    @property
    def decides(self) -> bool:
        """Whether what is there decides a result, so that a check must notice the damage."""
        return not self.kind.startswith(DERIVED) and self.how not in HARMLESS

    def carry_out(self, fixtures: Fixtures, folder: Path) -> Outcome:
        """Damage a copy and let the commands loose on it."""
        return _Damaged(self, getattr(fixtures, self.fixture), folder).carry_out()


def cases(fixtures: Fixtures, seed: int) -> list[Damage]:
    """Return every kind of file with every way of damaging it."""
    found = []
    for fixture in fixtures:
        for kind, path in places(fixture).items():
            whole = fixture.work / path
            ways = OF_FOLDERS if whole.is_dir() else OF_FILES
            found += [
                Damage(fixture.name, kind, path, how, way, seed)
                for how, way in ways.items()
                if not (how == "flip" and whole.stat().st_size == 0)
                and not (kind.startswith(DERIVED) and how in CONTENTS)
            ]
    random.Random(seed).shuffle(found)
    return found


class _Damaged:
    """One case being carried out."""

    def __init__(self, damage: Damage, fixture: Fixture, folder: Path) -> None:
        self.damage, self.fixture, self.folder = damage, fixture, folder
        self.outcome = Outcome("damage", damage.name, f"{damage.path}: {damage.how}")
        # What was damaged, or deleted because a refusal says so, may be made again.
        self.remade = [damage.path]

    def carry_out(self) -> Outcome:
        shutil.rmtree(self.folder, ignore_errors=True)
        victim = make_victim(self.folder)
        self.work = self.fixture.copy(self.folder)
        self.place = Place(self.work)
        self.run = self.work / RUN
        whole = finished(self.run)
        self.damage.way(
            self.work / self.damage.path, victim, random.Random(f"{self.damage.seed}{self.damage.name}")
        )
        before = state(self.folder, OWN)
        noticed = True
        if self.fixture.name == "finished":
            noticed = self._check(must_notice=self.damage.decides)
            self._report(noticed)
        self._go_on()
        remade = [str(path.relative_to(RUN)) for path in self.remade if path.is_relative_to(RUN)]
        for kind, text in harms(whole, finished(self.run), remade):
            self.outcome.add(kind, text)
        for change in changes(before, state(self.folder, OWN)):
            self.outcome.add("written outside", change)
        self.place.end_processes()
        if not self.outcome.faults:
            shutil.rmtree(self.folder)
        return self.outcome

    def _command(self, what: str, *words: str) -> Ended:
        # The report was drawn already when a run writes it again.
        ended = forked(words, self.place, limit_s=LIMIT_S, draw=words[0] == "report")
        judge_end(self.outcome, ended, what)
        return ended

    def _check(self, *, must_notice: bool, after: str = "") -> bool:
        ended = self._command(f"check{after}", "check", RUN)
        noticed = ended.status != 0 or ended.over is not None
        if must_notice and not noticed:
            self.outcome.add("blessed", f"check{after} finds nothing wrong")
        return noticed

    def _report(self, noticed: bool) -> None:
        ended = self._command("report", "report", RUN)
        if ended.status or ended.over:
            return
        now = rows(self.run)
        for id, row in self.fixture.table.items():
            if id not in now and not noticed:
                self.outcome.add("blessed", f"report leaves {id} out, and check finds nothing")
            for name, text in row.items():
                value = now.get(id, {}).get(name, "")
                if value not in ("", text) or (value != text and not noticed):
                    self.outcome.add("blessed", f"report has {value!r} for {name} of {id}, which is {text!r}")

    def _go_on(self) -> None:
        """Run the suite again, deleting what a refusal says, until it comes to its end."""
        for attempt in range(TRIES):
            what = f"run, attempt {attempt + 1}" if attempt else "run"
            ended = self._command(what, *self.fixture.command)
            if ended.over:
                return
            if ended.status == 0:
                self._compare_results(what, WARNED in " ".join((ended.output + ended.error).split()))
                return
            if not self._follow(ended):
                return
        self.outcome.add("refused", f"after {TRIES} mends: {ended.last_lines()}")

    def _follow(self, ended: Ended) -> bool:
        """Delete what a refusal names, or put in the place of a link what it leads to."""
        text = " ".join(ended.error.split())
        path = advised(text, self.work)
        if path is None:
            self.outcome.add("unclear", f"a refusal names nothing to mend: {text[-300:]}")
            return False
        self.remade.append(path.relative_to(self.work))
        if path.is_symlink() and "put in its place what it leads to" in text and path.exists():
            target = path.resolve()
            path.unlink()
            (shutil.copytree if target.is_dir() else shutil.copy)(target, path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True

    def _compare_results(self, what: str, warned: bool) -> None:
        try:
            lines = self.fixture.expected.differences(Results.of(self.run))
        except Exception as error:
            lines = [f"the results cannot be read: {error}"]
        for line in lines[:5]:
            if not (warned and line.endswith(": missing")):
                self.outcome.add("blessed", f"{what} ends well, and {line}")
        if self._check(must_notice=False, after=" after the run") and not warned:
            self.outcome.add("blessed", f"{what} ends well, and check then finds something wrong")


def advised(text: str, work: Path) -> Path | None:
    """Return what a message says is to be deleted, or else what it is about, below a folder."""
    match = ADVICE.search(text)
    named = _paths(match[1], work) if match else ()
    named = named or _paths(text, work)
    return named[0] if named else None


def _paths(text: str, work: Path) -> Sequence[Path]:
    """Return what of a text is a path of a run or a store, or what of it there is."""
    named = []
    for word in text.split():
        path = work / word.strip("'\"(),.:;")
        if any(folder in path.parents for folder in (work / RUN, work / STORE)):
            while not (path.is_symlink() or path.exists()):
                path = path.parent
            named.append(path)
    return [path for path in named if path not in (work / RUN, work / STORE)]
