"""A Keycloak in memory whose record of mails knows when they were sent."""

from datetime import datetime, timedelta

from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak


class TimedKeycloak(InMemoryKeycloak):
    """Records each mail at the time of `clock`; `mailed_at` lists a time for each of `mails`."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.mailed_at: list[datetime] = []

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Put the link among `mails`, and the time among `mailed_at`, also when the answer is lost."""
        try:
            super().execute_actions_email(user_id, terms)
        finally:
            if len(self.mails) > len(self.mailed_at):
                self.mailed_at.append(self.clock.now())

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether a link was mailed to the user `since` then, but for a minute."""
        recorded = super().mail_recorded(user_id, since)
        if since is None:
            return recorded
        earliest = since - timedelta(minutes=1)
        return recorded and any(
            mail.user_id == user_id and at >= earliest
            for mail, at in zip(self.mails, self.mailed_at, strict=True)
        )
