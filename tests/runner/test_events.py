"""What works tell: which epochs count for the whole, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdbench.runner.events import Event, Follower, Relay
from tests.runner.observed import Listening


def test_only_the_epochs_of_its_students_move_a_cohort_on() -> None:
    told: list[Event] = []
    relay = Relay(told.append)
    relay.turn_to("work")

    def stage(label: str, epochs: Sequence[int], part: tuple[int, int] | None = None) -> list[Any]:
        told.clear()
        if part:
            relay.part(*part)
        relay.begin(label, 4, "epoch")
        for epoch in epochs:
            relay.advance(epoch)
        relay.end()
        assert {event.work for event in told} == {"work"}
        return [(event.kind, event.content) for event in told]

    relay.cohort(1, "cnn_2, seed 0")
    assert stage("teacher cnn_2", [1, 2, 30]) == [("stage", "teacher cnn_2")]
    # Three of four students at once, then the fourth: four epochs in all, and never back.
    first = stage("3 students", [1, 2, 3, 4], part=(3, 4))
    assert first == [("stage", "3 students"), *(("epoch", done) for done in (0, 1, 2, 3))]
    assert stage("evaluating 3 models", [1, 20]) == [("stage", "evaluating 3 models")]
    assert [done for _, done in stage("1 students", [1, 2, 3, 4], part=(1, 4))[1:]] == [3, 3, 3, 4]
    # The students of a further cohort begin from these: its epochs come on top.
    relay.cohort(2, "cnn_2, seed 0")
    assert [done for _, done in stage("2 students", [1, 4], part=(2, 2))[1:]] == [5, 8]


def test_what_is_told_is_shown_as_epochs_of_all_works_together() -> None:
    heard = Listening()
    follower = Follower({"a": ("first", 4), "b": ("second", 4)}, heard)
    follower.tell(Event("epoch", "a", 1))
    assert heard.done == [], "works that show their own progress"
    follower.tell(Event("begin", "", 2))
    for event in (
        Event("epoch", "a", 2),
        Event("epoch", "b", 1),
        Event("done", "a"),
        Event("note", "b", "x"),
    ):
        follower.tell(event)
    assert heard.stages == [("2 cohorts in 2 processes", 8)]
    assert heard.done == [2, 3, 5] and heard.notes == ["x"]
