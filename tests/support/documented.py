"""The users, permissions and accounts that the manual documents, on a real server."""

from __future__ import annotations

import re

from tests.support.readme import ROOT
from tests.support.server import NatsServer


def documented() -> str:
    """Return the configuration with the permissions that gozo-protocol(7) says are needed."""
    return _example("gozo-protocol.7", "Permissions")


def documented_accounts() -> str:
    """Return the accounts that gozo(8) shows."""
    return _example("gozo.8", "Several accounts")


def documented_hosts() -> str:
    """Return the same configuration for jobs of cron, with the host that gozo-cron(7) shows."""
    users = documented().replace("jobs.>", "cron.>").partition("users = [\n")
    host = "    { user: web1, password: change_me, permissions: $web1 }\n"
    example = _example("gozo-cron.7", "PERMISSIONS").replace("\\-", "-")
    return example + "".join(users[:2]) + host + users[2]


def _example(page: str, section: str) -> str:
    text = (ROOT / "man" / "source" / page).read_text("utf-8")
    _, _, part = re.split(rf"^\.S([HS]) {section}\n", text, maxsplit=1, flags=re.MULTILINE)
    found = re.search(r"^\.EX\n(.*?)^\.EE", part, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def login(user: str) -> tuple[str, ...]:
    """Return the options to log in as a user of that configuration."""
    prefix = () if user == "daemon" else ("--inbox-prefix", f"_INBOX.{user}")
    return ("--user", user, "--password", "change_me", *prefix)


def violations(server: NatsServer) -> list[tuple[str, str]]:
    """Return the subjects that the server kept users from, after the user's name."""
    newer = r'user:(?P<user>\w+)" - \w+ Violation - '
    older = r'Violation - User "(?P<by>\w+)", '  # 2.10
    found = re.finditer(rf'(?:{newer}|{older})Subject "(?P<subject>[^"]*)', server.log)
    return [(one["user"] or one["by"], one["subject"]) for one in found]
