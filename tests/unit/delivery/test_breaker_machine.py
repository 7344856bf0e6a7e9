"""Whatever records do and in whatever order they end, the breaker keeps to its rules."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from keycloak_bridge.delivery.breaker import Breaker, BreakerState
from keycloak_bridge.delivery.retry import RetryPolicy
from keycloak_bridge.domain.ports import Dependency

POLICY = RetryPolicy(initial_s=1, max_s=8)
PROOFS = st.sampled_from([Dependency(value) for value in range(8)])
NEEDS = st.sampled_from([Dependency.NONE, Dependency.KAFKA, Dependency.KEYCLOAK, Dependency.MAIL])
JITTER = st.floats(0, 1, exclude_max=True)


class BreakerMachine(RuleBasedStateMachine):
    """Records start when admitted; those from before it opened may end while it is open (stragglers)."""

    @initialize(threshold=st.integers(1, 4), window=st.integers(1, 8))
    def begin(self, threshold: int, window: int) -> None:
        """Begin closed."""
        self.breaker = Breaker(POLICY, threshold, window)
        self.threshold = threshold
        self.now_s = 0.0
        self.flying = 0  # started while closed, not ended yet
        self.probes = 0
        self.unproven: list[
            Dependency
        ] = []  # failures that no success has made up for, while closed

    @rule(pause_s=st.floats(0, 10))
    def wait(self, pause_s: float) -> None:
        """Let time pass."""
        self.now_s += pause_s

    @rule()
    def start(self) -> None:
        """A record asks to start."""
        state, probe_at_s = self.breaker.state, self.breaker.probe_at_s
        admitted = self.breaker.admits(self.now_s)
        match state:
            case BreakerState.CLOSED:
                assert admitted
                self.flying += 1
            case BreakerState.OPEN:
                assert probe_at_s is not None
                assert admitted == (self.now_s >= probe_at_s)
                self.probes = int(admitted)
            case BreakerState.HALF_OPEN:
                assert admitted == (self.probes == 0)
                self.probes += admitted
        assert self.probes <= 1

    @precondition(lambda self: self.flying and self.breaker.state is not BreakerState.HALF_OPEN)
    @rule(needs=NEEDS, jitter=JITTER, at_once=st.booleans())
    def fail(self, needs: Dependency, jitter: float, at_once: bool) -> None:
        """A record that started while it was closed fails."""
        self.flying -= 1
        before = (self.breaker.state, self.breaker.probe_at_s, self.breaker.needs)
        news = self.breaker.failed(needs, self.now_s, jitter, at_once=at_once)
        after = (self.breaker.state, self.breaker.probe_at_s, self.breaker.needs)
        if before[0] is BreakerState.OPEN:
            assert (False, before) == (news, after)
            return
        self.unproven.append(needs)
        assert news == (self.breaker.state is BreakerState.OPEN)
        assert news or not (at_once or len(self.unproven) >= self.threshold)
        assert not news or all(failure in self.breaker.needs for failure in self.unproven)

    @precondition(lambda self: self.probes)
    @rule(needs=NEEDS, jitter=JITTER)
    def fail_probe(self, needs: Dependency, jitter: float) -> None:
        """The probe fails."""
        self.probes = 0
        news = self.breaker.failed(needs, self.now_s, jitter)

        probe_at_s = self.breaker.probe_at_s
        assert not news
        assert BreakerState.OPEN is self.breaker.state
        assert probe_at_s is not None
        assert POLICY.initial_s <= probe_at_s - self.now_s + 1e-9
        assert probe_at_s - self.now_s <= POLICY.max_s + 1e-9

    @precondition(lambda self: self.flying or self.probes)
    @rule(dependency=PROOFS)
    def succeed(self, dependency: Dependency) -> None:
        """A record ends well, the probe if there is one."""
        state, needs = self.breaker.state, self.breaker.needs
        if self.probes:
            self.probes = 0
        elif state is BreakerState.HALF_OPEN:
            return
        else:
            self.flying -= 1
        closed = self.breaker.succeeded(dependency)

        assert closed == (state is not BreakerState.CLOSED and needs in dependency)
        assert self.breaker.state is (BreakerState.CLOSED if closed else state)
        self.unproven = (
            []
            if state is not BreakerState.CLOSED
            else [failure for failure in self.unproven if failure not in dependency]
        )

    @precondition(lambda self: self.probes)
    @rule()
    def learn_nothing(self) -> None:
        """The probe ends without a finding."""
        self.probes = 0
        self.breaker.neutral()

        assert BreakerState.HALF_OPEN is self.breaker.state

    @invariant()
    def a_pause_is_known_while_open_only(self) -> None:
        """And nothing is needed while closed."""
        state = self.breaker.state
        assert (state is BreakerState.OPEN) == (self.breaker.probe_at_s is not None)
        assert state is not BreakerState.CLOSED or self.breaker.needs is Dependency.NONE


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
