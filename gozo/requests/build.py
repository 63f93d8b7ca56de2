"""Builds `Intake` and its parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.in_memory import InMemory
from gozo.leadership.feed_messages import feed_subject
from gozo.leadership.handled_feed import FeedWriter
from gozo.leadership.lookout import Lookout
from gozo.protocol.subject_policy import Policy
from gozo.requests.admin_verbs import AdminVerbs
from gozo.requests.admission import Admission
from gozo.requests.context import BeginRun, Context
from gozo.requests.handler import RequestHandler
from gozo.requests.handover import Handover
from gozo.requests.in_progress import InProgress
from gozo.requests.intake import Intake
from gozo.requests.origins import Origins
from gozo.requests.quotas import Quotas
from gozo.requests.replies import Replies
from gozo.requests.request_loop import RequestLoop
from gozo.requests.standby import Standby
from gozo.runtime.clock_watch import ClockWatch
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection


def build_intake(
    *,
    connection: Connection,
    policy: Policy,
    quotas: Quotas,
    max_backlog: int,
    store: ScheduleStore,
    in_memory: InMemory,
    feed_writer: FeedWriter,
    lookout: Lookout,
    clock: ClockWatch,
    stats: Stats,
    events: EventSink,
    may_act: Callable[[], bool],
    wake_delivery: Callable[[], None],
    on_too_large: Callable[[], None],
    begin_run: BeginRun,
    answers: AnswerInbox,
) -> Intake:
    """Return an intake that processes requests, as the leader, while `may_act`.

    `on_too_large` is called when the server's limit refuses a message.
    """
    publish = partial(connection.publish, feed_subject(policy.request_subject))
    replies = Replies(connection, policy, store, stats, events, clock, lookout, on_too_large)
    in_progress = InProgress(feed_writer, max_backlog)
    admission = Admission(policy, quotas, store, in_memory, connection, answers)
    context = Context(
        store=store,
        in_memory=in_memory,
        in_progress=in_progress,
        replies=replies,
        stats=stats,
        events=events,
        wake_delivery=wake_delivery,
        begin_run=begin_run,
    )
    standby = Standby(feed_writer.name, publish, feed_writer.count, clock, max_backlog)
    handover = Handover(standby, in_memory, store, feed_writer, publish)
    origins = Origins(feed_writer, standby, store.knows)
    handler = RequestHandler(context, admission, feed_writer, origins)
    admin_verbs = AdminVerbs(context, policy, connection)
    return Intake(
        connection=connection,
        request_subject=policy.request_subject,
        clock=clock,
        may_act=may_act,
        lookout=lookout,
        feed_writer=feed_writer,
        admission=admission,
        replies=replies,
        in_progress=in_progress,
        handler=handler,
        admin_verbs=admin_verbs,
        standby=standby,
        handover=handover,
        loop=RequestLoop(context, standby, handover, handler, admin_verbs, may_act),
    )
