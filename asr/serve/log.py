"""The server's log: one JSON object a line."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("asr.serve")


def report(event: str, **fields: Any) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    log.info(json.dumps({"time": now, "event": event, **fields}))
