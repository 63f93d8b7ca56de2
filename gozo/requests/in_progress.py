"""The requests in progress: counts their memory, and reports them as handled when done.

Together with waiting requests they may take `--max-backlog` bytes; more are refused.
"""

from __future__ import annotations

from gozo.errors import Refusal, RequestError
from gozo.leadership.handled_feed import FeedWriter
from gozo.protocol.heard import Heard


class InProgress:
    """Counts requests in progress; the caller that begins one adds its `size`."""

    def __init__(self, feed_writer: FeedWriter, max_backlog: int) -> None:
        self._feed_writer = feed_writer
        self._max_backlog = max_backlog
        self.size = 0
        """Bytes of memory that the requests take."""

    def check_room(self, heard: Heard, waiting: int) -> None:
        """Refuse a message for which there is no memory; waiting requests take `waiting` bytes.

        Raises:
            RequestError: `busy`.
        """
        size = waiting + self.size
        if size + heard.size > self._max_backlog:
            raise RequestError(
                Refusal.BUSY,
                f"{size} bytes of requests are already waiting to be stored: "
                "send it again later, or raise --max-backlog",
            )

    def done(self, heard: Heard) -> None:
        """Report a request as handled: it is stored, or answered."""
        self.size -= heard.size
        self._feed_writer.handled(heard.digest, heard.position)

    def drop(self, heard: Heard) -> None:
        """Drop a request that another leader may have."""
        self.size -= heard.size
