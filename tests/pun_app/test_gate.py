"""Tests of pun_app/gate.py: the places and the order in which requests get them."""

from __future__ import annotations

from pun_app.gate import Gate, Gates


def test_places_are_given_in_order_and_once() -> None:
    gate = Gate(2)
    resumed: list[int] = []
    turns = [gate.enter() for _ in range(5)]
    assert [turn.has_place for turn in turns] == [True, True, False, False, False]
    for number, turn in enumerate(turns[2:4]):
        turn.park(lambda number=number: resumed.append(number))  # type: ignore[misc]
    turns[0].end()
    turns[0].end()
    assert (resumed, [turn.has_place for turn in turns]) == ([0], [False, True, True, False, False])
    turns[3].end()  # Its client has hung up.
    turns[1].end()
    assert (resumed, turns[4].has_place) == ([0], True)
    turns[4].park(lambda: resumed.append(4))  # It got its place before it was put aside.
    assert resumed == [0, 4]
    for turn in turns:
        turn.end()
    assert [gate.enter().has_place for _ in range(3)] == [True, True, False]


def test_each_name_has_places_of_its_own_and_two_threads_are_left() -> None:
    gates = Gates(4)
    assert [gates.enter("a").has_place for _ in range(3)] == [True, True, False]
    assert gates.enter("b").has_place
    assert Gates(1).enter("a").has_place
