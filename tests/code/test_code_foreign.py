"""Foreign code is named while it runs, and does not end the process from within Python."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdbench.code import foreign as module
from kdbench.code.factory import load_factory
from kdbench.code.foreign import Note, Patience, ProcessEnded, foreign, last_words, limit
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.training.cohort import _leaving


@pytest.fixture
def note() -> Iterator[Note]:
    note = Note(bytearray(Note.SIZE))
    module.watched_through(note)
    yield note
    module.watched_through(None)
    limit(0)


def test_what_ends_the_process_becomes_an_error_that_says_where() -> None:
    with (
        pytest.raises(ProcessEnded, match=rf"SystemExit\(3\) in {Path(__file__).name}, line \d+;"),
        foreign("x"),
    ):
        raise SystemExit(3)
    for kind in (KeyboardInterrupt, ZeroDivisionError, UserError):
        with pytest.raises(kind), foreign("x"):
            raise kind("gone")


def test_the_note_says_which_code_is_at_work_and_how_long_it_may(note: Note) -> None:
    limit(7)
    seen = []
    with foreign("outer"):
        seen.append((note.what, note.limit_s))
        with pytest.raises(ZeroDivisionError), foreign("ein Netz – αβ", limited=True):
            seen.append((note.what, note.limit_s))
            with foreign("inner"):
                seen.append((note.what, note.limit_s))
            raise ZeroDivisionError
        seen.append((note.what, note.limit_s))
    assert seen == [("outer", 0), ("ein Netz – αβ", 7), ("inner", 7), ("outer", 0)]
    assert (note.what, note.limit_s, note.finished) == ("", 0, False)
    note.finish()
    assert note.finished


def test_a_name_longer_than_the_note_is_cut(note: Note) -> None:
    with foreign("x" * 5000):
        assert re.fullmatch("x{900,1024}", note.what)


def test_patience_counts_only_while_its_owner_was_awake(note: Note) -> None:
    now = [0.0]
    patience = Patience(note, lambda: now[0])

    def look(after: float) -> str | None:
        now[0] += after
        return patience.look(1.0)

    limit(10)
    with foreign("slow", limited=True):
        assert look(1) is None  # seen for the first time
        assert look(3600) is None  # the machine slept
        assert [look(1) for _ in range(7)] == [None] * 7
        text = look(1)
        assert text is not None and text.startswith("slow took more than 10 s and was stopped")
    with foreign("another", limited=True):
        assert look(1) is None and look(1) is None
    limit(0)
    with foreign("without a limit", limited=True):
        assert not any(look(2) for _ in range(100))


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("net", 0, "net ended the process with status 0"),
        ("net", -signal.SIGABRT, "net crashed the process (SIGABRT)"),
        ("", -signal.SIGKILL, "kdbench was killed by SIGKILL, often a sign of too little memory."),
        ("net", -signal.SIGKILL, "kdbench was killed by SIGKILL while it ran net, often"),
        ("", -63, "kdbench was ended by signal 63."),
        ("", 3, "kdbench ended with status 3 before its work was done"),
    ],
)
def test_last_words(note: Note, code: str, status: int, text: str) -> None:
    with foreign(code):
        assert last_words(note, status, "kdbench").startswith(text)


@pytest.mark.parametrize("ends", ["raise SystemExit('gone')", "import sys; sys.exit('gone')"])
def test_a_file_that_ends_the_process_when_it_is_imported(tmp_path: Path, ends: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"{ends}\n")
    for _ in range(2):  # a second import tells it again
        with pytest.raises(UserError, match=r"cannot import .*SystemExit\(gone\) in net.py, line 1"):
            load_factory(f"{file}:make")


def test_a_factory_that_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(num_classes):\n    raise SystemExit\n")
    with pytest.raises(UserError, match=r"could not be built: .*SystemExit\(\) in net.py, line 2"):
        build_model(f"{tmp_path}/net.py:make", inputs=InputSpec.image((1, 8, 8)), num_classes=2)


def test_a_student_that_ends_the_process_while_it_trains_leaves_its_cohort() -> None:
    class Trainee:
        code = "KD training Net"
        failure = traceback = None

    trainee = Trainee()
    with _leaving(trainee):  # type: ignore[arg-type]
        raise SystemExit(0)
    assert re.match(rf"ProcessEnded: SystemExit\(0\) .*\({Path(__file__).name}:\d+\)$", str(trainee.failure))
