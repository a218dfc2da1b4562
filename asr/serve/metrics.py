"""Counters of the server in Prometheus' text format (version 0.0.4)."""

import time
from bisect import bisect_left
from collections import Counter

LATENCY_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)  # seconds

HELP = {
    "asr_streams_total": "Live streams begun.",
    "asr_files_total": "Files accepted.",
    "asr_rejected_total": "Requests refused, by reason.",
    "asr_audio_seconds_total": "Audio recognized.",
    "asr_busy_seconds_total": "Time the models took; over asr_audio_seconds_total it is the real-time factor.",
    "asr_streams": "Live streams now.",
    "asr_files": "Files that wait or are recognized now.",
    "asr_backlog_seconds": "Audio of live streams that waits for the model.",
    "asr_uptime_seconds": "Time since the start.",
}


class Metrics:
    """Used in the event loop only."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._totals: Counter[tuple[str, str]] = Counter()
        self._latencies = [0] * (len(LATENCY_BOUNDS) + 1)
        self._latency_sum = 0.0

    def add(self, name: str, label: str = "", amount: float = 1.0) -> None:
        """Raise a total; a label is written as `kind="…"`."""
        self._totals[name, f'{{kind="{label}"}}' if label else ""] += amount  # type: ignore[assignment]

    def add_latency(self, seconds: float) -> None:
        """From the arrival of a chunk of a live stream to the events that cover it."""
        self._latencies[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self._latency_sum += seconds

    def render(self, gauges: dict[str, float]) -> str:
        totals = sorted((name, label, value) for (name, label), value in self._totals.items())
        gauges = {**gauges, "asr_uptime_seconds": time.monotonic() - self._began}
        lines, last = [], ""
        for name, label, value in totals + [(name, "", value) for name, value in gauges.items()]:
            if name != last:
                lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {'gauge' if name in gauges else 'counter'}"]
            lines.append(f"{name}{label} {value:.6g}")
            last = name
        name, count = "asr_chunk_latency_seconds", 0
        lines += [f"# HELP {name} From a chunk's arrival to its events.", f"# TYPE {name} histogram"]
        for bound, found in zip([*map(str, LATENCY_BOUNDS), "+Inf"], self._latencies, strict=True):
            count += found
            lines.append(f'{name}_bucket{{le="{bound}"}} {count}')
        lines += [f"{name}_sum {self._latency_sum:.6g}", f"{name}_count {count}"]
        return "\n".join(lines) + "\n"
