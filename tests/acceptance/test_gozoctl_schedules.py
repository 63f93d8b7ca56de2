"""`gozoctl list`, `inspect`, `create`, `reschedule`, `cancel`, as people and scripts do it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Daemons, Servers

FIELDS = {
    *("id", "key", "subject", "when", "due", "due_epoch"),
    *("created", "size", "headers", "state", "revision", "protected"),
}

HEAD = "ID\tDUE\tLEFT\tSUBJECT\tSIZE\tSTATE\tLAST\tWHEN\tRESULT\n"


@pytest.fixture
def ctl(servers: Servers, tmp_path: Path) -> Gozoctl:
    """Gozoctl on a server where no daemon runs."""
    return Gozoctl(tmp_path, servers.start().url)


def test_what_is_created_is_listed(ctl: Gozoctl) -> None:
    """`create` prints the id; `list -o json` has just the fields that are documented."""
    done = ctl.ok("create", "tea", "kitchen.tea", "ready", "--in", "1h30m", "-H", "Kind: green")
    assert done.out == "tea\n"
    (found,) = ctl.ok("list", "-o", "json").json
    assert found.keys() == FIELDS
    assert found["id"] == "tea"
    assert found["subject"] == "kitchen.tea"
    assert found["when"] == "+1h30m"
    assert found["size"] == 5
    assert found["headers"] == {"Kind": ["green"]}
    assert found["state"] == "pending"
    due = datetime.fromisoformat(found["due"])
    assert due.timestamp() == pytest.approx(found["due_epoch"], abs=0.001)
    left = due - datetime.now(UTC)
    assert timedelta(hours=1, minutes=29) < left <= timedelta(hours=1, minutes=30)


def test_lines_for_scripts_and_order(ctl: Gozoctl) -> None:
    """Piped, a list is tab-separated, whole, in UTC, the soonest first, with a header line."""
    long = "id-" + "x" * 150
    ctl.ok("create", long, "jobs.b", "--at", "2099-12-24 18:00", "-y")
    ctl.ok("create", "soon", "jobs.a", "--in", "60")
    head, soon, late = ctl.ok("list").rows
    assert head == ["ID", "DUE", "LEFT", "SUBJECT", "SIZE", "STATE", "LAST", "WHEN", "RESULT"]
    assert soon[0] == "soon"
    assert late[:2] == [long, "2099-12-24T17:00:00.000Z"]
    first, _ = ctl.ok("list", "--no-header", "--reverse", "-o", "table").rows
    assert first[0] == long
    assert ctl.ok("list", "-o", "id", "--limit", "1").out == "soon\n"
    assert ctl.ok("-o", "id", "list", "--sort", "id").out == f"{long}\nsoon\n"


def test_filters(ctl: Gozoctl) -> None:
    """Each filter keeps what it says."""
    ctl.ok("create", "a-1", "jobs.a", "--in", "1m")
    ctl.ok("create", "a-2", "jobs.b.c", "--in", "2h")
    ctl.ok("create", "b-1", "other", "--in", "3h")

    def ids(*options: str) -> list[str]:
        return ctl.ok("list", "-o", "id", *options).out.split()

    assert ids("--subject", "jobs.>") == ["a-1", "a-2"]
    assert ids("--subject", "jobs.*") == ["a-1"]
    assert ids("--id", "?-1") == ["a-1", "b-1"]
    assert ids("--due-before", "+1h") == ["a-1"]
    assert ids("--due-after", "+1h") == ["a-2", "b-1"]
    assert ids("--state", "overdue") == []


def test_a_missing_bucket_is_no_error_and_is_not_created(ctl: Gozoctl) -> None:
    """Commands that only read print nothing, say a word, exit 0, and create nothing."""
    for _ in range(2):
        done = ctl.run("list", "-o", "json")
        assert (done.code, done.json) == (0, [])
        assert "does not exist yet" in done.err
    assert ctl.run("inspect", "tea").code == 3
    assert ctl.run("cancel", "tea").code == 3


def test_cancel_answers_for_each(ctl: Gozoctl) -> None:
    """Each id has its answer; one that is not there makes it exit 3, unless that is all right."""
    ctl.ok("create", "tea", "kitchen", "--in", "1h")
    done = ctl.run("cancel", "tea", "nothing")
    assert done.code == 3
    assert done.rows == [["ID", "STATUS"], ["tea", "cancelled"], ["nothing", "not_found"]]
    assert ctl.run("cancel", "tea", "--ignore-missing").code == 0
    assert ctl.ok("list", "-o", "json").json == []


async def test_cancel_after_the_delivery(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """What was delivered is `already_delivered`, and `inspect` tells when that was."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server)
    assert ctl.ok("send", "kitchen", "--id", "tea", "--in", "0", "--wait").code == 0
    done = ctl.run("cancel", "tea", "-o", "json")
    assert done.code == 3
    assert done.json == [{"id": "tea", "status": "already_delivered"}]
    done = ctl.run("inspect", "tea")
    assert done.code == 3
    assert "delivered" in done.err


def test_cancel_in_bulk(ctl: Gozoctl) -> None:
    """A pattern cancels what it matches and nothing else; a dry run cancels nothing."""
    for id_, subject in (("a", "jobs.a"), ("b", "jobs.b"), ("c", "other")):
        ctl.ok("create", id_, subject, "--in", "1h")
    shown = ctl.ok("cancel", "--subject", "jobs.>", "--dry-run", "-o", "id").out.split()
    assert shown == ["a", "b"]
    assert ctl.ok("list", "-o", "id").out.split() == ["a", "b", "c"]
    refused = ctl.run("cancel", "--all")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert refused.out == ""
    ctl.ok("cancel", "--subject", "jobs.>", "--yes")
    assert ctl.ok("list", "-o", "id").out.split() == ["c"]
    assert ctl.run("cancel").code == 2
    assert ctl.run("cancel", "c", "--all").code == 2


def test_cancel_asks_in_a_terminal(ctl: Gozoctl) -> None:
    """In a terminal there is a question, and what is not a yes is a no."""
    ctl.ok("create", "tea", "kitchen", "--in", "1h")
    with ctl.terminal("cancel", "--all") as terminal:
        terminal.shows("Cancel 1 schedule? [y/N]")
        terminal.press("n\n")
        terminal.ends()
    assert ctl.ok("list", "-o", "id").out == "tea\n"
    with ctl.terminal("cancel", "--all") as terminal:
        terminal.shows("[y/N]")
        terminal.press("y\n")
        terminal.shows("cancelled")
    assert ctl.ok("list", "-o", "id").out == ""


def test_reschedule_keeps_the_rest(ctl: Gozoctl) -> None:
    """Another due time, the same subject, payload and headers; nothing there is exit 3."""
    ctl.ok("create", "tea", "kitchen", "ready", "--in", "1h", "-H", "Kind: green")
    ctl.ok("reschedule", "tea", "--at", "2099-01-01T00:00:00Z", "-y")
    found = ctl.ok("inspect", "tea", "-o", "json").json
    assert found["due"] == "2099-01-01T00:00:00.000Z"
    assert (found["subject"], found["payload"]) == ("kitchen", "ready")
    assert found["headers"] == {"Kind": ["green"]}
    assert ctl.run("reschedule", "nothing", "--in", "5").code == 3


def test_no_replace(ctl: Gozoctl) -> None:
    """With --no-replace an id that is taken fails, and what is there stays."""
    ctl.ok("create", "tea", "one", "--in", "1h", "--no-replace")
    taken = ctl.run("create", "tea", "two", "--in", "1h", "--no-replace")
    assert taken.code == 1
    assert "'tea'" in taken.err
    ctl.ok("create", "tea", "three", "--in", "1h")
    assert ctl.ok("inspect", "tea", "-o", "json").json["subject"] == "three"


def test_payloads(ctl: Gozoctl) -> None:
    """A payload comes from the argument, an option, a file or stdin, and out again as it is."""
    raw = bytes(range(256))
    (ctl.home / "raw").write_bytes(raw)
    ctl.ok("create", "file", "s", "--in", "1h", "--file", "raw")
    ctl.ok("create", "stdin", "s", "-", "--in", "1h", stdin=b"from stdin\n")
    ctl.ok("create", "text", "s", "--in", "1h", "--payload", "text", stdin=b"not read")
    assert ctl.ok("inspect", "stdin", "--payload").out == "from stdin\n"
    assert ctl.ok("inspect", "text", "--payload").out == "text"
    assert ctl.shell("gozoctl inspect file --payload | cmp - raw").code == 0
    assert "(hex) 00 01 02" in ctl.ok("inspect", "file").out
    assert ctl.run("create", "x", "s", "a", "--payload", "b", "--in", "1").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x", "s"),
        ("create", "x", "s", "--in", "1", "--at", "17:30"),
        ("create", "x", "s", "--in", "soon"),
        ("create", "x", "s", "--in", "-5m"),
        ("create", "x", "s", "--at", "25:00"),
        ("create", "x", "s", "--when", "nonsense"),
        ("create", "x", "a..b", "--in", "1"),
        ("create", "x", "s", "--in", "1", "-H", "no colon"),
        ("list", "--due-before", "nonsense"),
        ("list", "-o", "xml"),
        ("list", "--subject", "a..b"),
    ],
)
def test_usage(ctl: Gozoctl, arguments: tuple[str, ...]) -> None:
    """What cannot be understood exits 2, with a sentence, and changes nothing."""
    done = ctl.run(*arguments)
    assert done.code == 2, done
    assert done.err.startswith("gozoctl: ")
    assert done.out == ""


def test_in_a_terminal(ctl: Gozoctl) -> None:
    """A table in local time, and how far away it is; the due time in words after `create`."""
    with ctl.terminal("create", "tea", "kitchen", "--at", "2099-12-24 18:00", "-y") as terminal:
        terminal.shows("due Thu 2099-12-24 18:00:00 CET, in ")
    with ctl.terminal("list") as terminal:
        screen = terminal.shows("pending")
    assert "Thu 2099-12-24 18:00:00" in screen
    with ctl.terminal("inspect", "tea") as terminal:
        terminal.shows("kitchen")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_escapes(ctl: Gozoctl, variables: dict[str, str]) -> None:
    """With NO_COLOR or a dumb terminal, not one escape sequence is sent; else there are some."""
    ctl.ok("create", "tea", "kitchen", "--in", "1h")
    for command in (("list",), ("inspect", "tea"), ("--help",), ("list", "--help")):
        with ctl.terminal(*command, variables=variables) as terminal:
            terminal.ends()
            assert "\x1b" not in terminal.raw
    with ctl.terminal("list") as terminal:
        terminal.ends()
        assert "\x1b" in terminal.raw


def test_others_escapes_never_reach_a_terminal(ctl: Gozoctl) -> None:
    """An id, a header or a payload that holds escape sequences is shown escaped."""
    ctl.ok("create", "evil\x1b[2J", "kitchen", "\x1b]0;title\x07", "--in", "1h", "-H", "X: \x1b[1m")
    for command in (("list",), ("inspect", "evil\x1b[2J")):
        with ctl.terminal(*command, variables={"NO_COLOR": "1"}) as terminal:
            terminal.ends()
            assert "\x1b" not in terminal.raw
            assert "\\u001b" in terminal.raw
    assert ctl.ok("list", "-o", "json").json[0]["id"] == "evil\x1b[2J"


def test_shell_scripts(ctl: Gozoctl) -> None:
    """What people write in shells: head, command substitution, a loop that reads, a pipe of ids."""
    for number in range(5):
        ctl.ok("create", f"job-{number}", f"jobs.{number}", "--in", "1h")
    ctl.ok("create", "other", "other", "--in", "2h")
    done = ctl.shell("gozoctl list | head -1")
    assert (done.code, done.out, done.err) == (0, HEAD, "")
    loop = "gozoctl list -o id | while read -r id; do gozoctl inspect $id -o id; done"
    assert len(ctl.shell(loop).out.split()) == 6
    some = ctl.shell("gozoctl list -o id --limit 2 | gozoctl cancel - -o id")
    assert some.out.split() == ["job-0", "job-1"]
    assert ctl.shell("gozoctl cancel $(gozoctl list -o id --subject 'jobs.>')").code == 0
    assert ctl.ok("list", "-o", "id").out == "other\n"
    assert ctl.shell("gozoctl list > /dev/full").code == 1
    for closed in ("list >&-", "list <&-", "inspect other -o id 2>&-", "create x s - --in 9 <&-"):
        assert ctl.shell(f"gozoctl {closed}").code == 0


@pytest.mark.parametrize(("alias", "name"), [("ls", "list"), ("info", "inspect"), ("rm", "cancel")])
def test_aliases(ctl: Gozoctl, alias: str, name: str) -> None:
    """The verbs of the NATS command line do the same, and are not in the help."""
    ctl.ok("add", "tea", "kitchen", "--in", "1h")
    ids = [] if name == "list" else ["tea"]
    assert ctl.ok(alias, *ids, "-o", "id").out == "tea\n"
    assert f"  {alias} " not in ctl.ok("--help").out


def test_watch_in_a_pipe(ctl: Gozoctl) -> None:
    """`list --watch -o jsonl` prints a line for each change, and ends when nobody reads."""
    ctl.ok("create", "tea", "kitchen", "--in", "1h")
    done = ctl.shell(
        "gozoctl list --watch -o jsonl | "
        "{ read -r a; read -r b; gozoctl cancel tea -o id; read -r c; "
        'echo "$a"; echo "$b"; echo "$c"; }'
    )
    cancelled, put, current, removed = done.out.splitlines()
    assert cancelled == "tea"
    assert '"change": "put"' in put
    assert current == '{"change": "current"}'
    assert '"change": "removed"' in removed
    assert '"reason": "cancelled"' in removed


def test_watch_in_a_terminal(ctl: Gozoctl) -> None:
    """`list --watch` shows what comes while it runs, and ends with 130 on Ctrl-C."""
    with ctl.terminal("list", "--watch") as terminal:
        terminal.shows("SUBJECT")
        ctl.ok("create", "tea", "kitchen", "--in", "1h")
        terminal.shows("kitchen")
        terminal.press("\x03")
        assert terminal.ends() == 130
