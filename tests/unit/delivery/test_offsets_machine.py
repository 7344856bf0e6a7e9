"""No record is lost, whatever the order of deliveries, ends, commits, crashes and compactions."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keycloak_bridge.delivery.offsets import CommitNotes, OffsetTracker, read_notes, write_notes

ROOM_FOR_ALL = 3000


class PartitionMachine(RuleBasedStateMachine):
    """A log with gaps, and owners that follow one another and know of each other by the commit only."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.log_end = 0
        self.done: set[int] = set()
        self.commit: tuple[int, str] | None = None
        self.known_done: frozenset[int] = frozenset()
        self.all_noted = True
        self.take_over()

    def take_over(self) -> None:
        """Begin as the next owner: with what stands in the commit."""
        start, metadata = self.commit if self.commit is not None else (None, "")
        notes = read_notes(start or 0, metadata)
        self.tracker = OffsetTracker(start, notes.finished)
        self.inherited = {offset for one in notes.finished for offset in one}
        self.position = start or 0
        self.in_hand: set[int] = set()
        self.delivered: set[int] = set()
        self.highest_commit = start or 0

    @rule(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=6), markers=st.integers(0, 2))
    def produce(self, gaps: list[int], markers: int) -> None:
        """Records are written, after aborted ones and before the marker of their transaction."""
        for gap in gaps:
            self.log.append(self.log_end + gap)
            self.log_end = self.log[-1] + 1
        self.log_end += markers

    @rule(count=st.integers(1, 8))
    def poll(self, count: int) -> None:
        """The next records are read; behind the last one the consumer passes the markers."""
        ahead = [offset for offset in self.log if offset >= self.position]
        for offset in ahead[:count]:
            to_do = self.tracker.deliver(offset)
            self.delivered.add(offset)
            if to_do:
                self.in_hand.add(offset)

            assert to_do or offset in self.done
            assert not (to_do and self.all_noted and offset in self.known_done)
        self.position = ahead[count] if len(ahead) > count else self.log_end

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any of the records in hand is done."""
        offset = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.tracker.finish(offset)
        self.in_hand.discard(offset)
        self.done.add(offset)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        """What was delivered comes again, and is not worked on twice."""
        assert not self.tracker.deliver(data.draw(st.sampled_from(sorted(self.delivered))))

    @rule(limit=st.sampled_from([ROOM_FOR_ALL, ROOM_FOR_ALL, 30, 16, 0]))
    def commit_now(self, limit: int) -> None:
        """The owner commits what it knows, with much or little room for the rest."""
        offset = self.tracker.next_to_commit(self.position)
        assert offset is not None
        notes = CommitNotes(self.tracker.finished_above())
        self.commit = offset, write_notes(offset, notes, limit)
        self.all_noted = limit == ROOM_FOR_ALL
        self.known_done = frozenset(self.delivered - self.in_hand | self.inherited)

    @rule()
    def crash(self) -> None:
        """The next owner knows only what was committed."""
        self.take_over()

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Records that nobody is to read any more leave the log."""
        kept = [offset for offset in self.log if data.draw(st.booleans())]
        self.log = [one for one in self.log if one in kept or one in self.in_hand]

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        """The commit lies at the first record in hand, and everything in the log before it is done."""
        offset = self.tracker.next_to_commit(self.position)

        assert offset is not None
        assert offset == min(self.in_hand, default=self.position)
        assert all(one in self.done for one in self.log if one < offset)

    @invariant()
    def the_commit_never_goes_back(self) -> None:
        """Not with the same owner, and not below what it began with."""
        offset = self.tracker.next_to_commit(self.position)

        assert offset is not None
        assert self.highest_commit <= offset
        self.highest_commit = offset

    @invariant()
    def finished_ranges_hold_what_is_done_and_nothing_else(self) -> None:
        """No unfinished record is in them; all finished ones above the commit are."""
        low = self.tracker.next_to_commit(self.position) or 0
        above = {offset for one in self.tracker.finished_above() for offset in one}

        assert not above & self.in_hand
        assert all(offset in self.done for offset in self.log if offset in above)
        assert {one for one in self.delivered - self.in_hand if one >= low} <= above

    @invariant()
    def what_is_in_hand_is_counted(self) -> None:
        """`unfinished` is what bounds the work in hand."""
        assert len(self.in_hand) == self.tracker.unfinished


TestPartition = PartitionMachine.TestCase
TestPartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
