"""Tell the demo's stories: what became of each event, on a terminal or as plain lines."""

import json
from collections.abc import Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from keycloak_bridge.sandbox.demo import Story

_BOOKKEEPING = "bridge"


def show(stories: Sequence[Story], console: Console) -> None:
    """Print one panel for each event."""
    for number, story in enumerate(stories, 1):
        data = story.event["data"]
        title = f"event {number} of {len(stories)}: {story.event['type']} for {data['email']}"
        good = story.user is not None
        console.print(
            Panel(
                _created(story) if good else _refused(story),
                title=Text(title),
                title_align="left",
                border_style="green" if good else "red",
            )
        )
        if link := _link(story):
            # outside the frame and on one line, so that it can be opened or copied
            console.print(f"  link in the mail: {link}", markup=False, soft_wrap=True)


def summary(stories: Sequence[Story]) -> str:
    """Return one sentence with the totals."""
    users = sum(story.user is not None for story in stories)
    mails = sum(story.mail is not None for story in stories)
    letters = sum(story.dead_letter is not None for story in stories)
    return f"{len(stories)} events: {users} users created, {mails} mails sent, {letters} refused with its reason"


def complaints(stories: Sequence[Story]) -> list[str]:
    """Return what did not go as the demo promises; empty when all went well."""
    found = []
    for story in stories:
        name = story.event["id"]
        if story.user is None and story.dead_letter is None:
            found.append(f"event {name} led to nothing")
        if story.user is not None and story.mail is None:
            found.append(f"the user of event {name} got no mail")
    if not any(story.dead_letter for story in stories):
        found.append("the invalid event was not refused")
    return found


def _created(story: Story) -> Group:
    user = story.user or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("user", Text(f"{user['username']}  ({user['firstName']} {user['lastName']})"))
    table.add_row("Keycloak id", Text(str(user["id"])))
    for name, values in sorted(user["attributes"].items()):
        if not name.startswith(_BOOKKEEPING):
            table.add_row(Text(f"  {name}"), Text(", ".join(values)))
    if story.mail is not None:
        table.add_row("mail", Text(story.mail.subject))
    outcomes = ", ".join(
        " ".join(filter(None, (result["outcome"], result.get("action"))))
        for result in story.results
    )
    table.add_row("results topic", Text(outcomes))
    return Group(table)


def _refused(story: Story) -> Group:
    letter = story.dead_letter or {}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "refused", Text(f"{letter.get('kb-dlq-code', '?')}: {letter.get('kb-dlq-message', '')}")
    )
    for violation in json.loads(letter.get("kb-dlq-errors", "[]")):
        table.add_row(Text(f"  {violation['pointer']}"), Text(violation["message"]))
    table.add_row("what to do", Text(letter.get("kb-dlq-action", "")))
    table.add_row("dead letter", Text("on topic user-events-dead-letters, record untouched"))
    return Group(table)


def _link(story: Story) -> str:
    links = story.mail.links if story.mail else ()
    return next((link for link in links if "action-token" in link), "")
