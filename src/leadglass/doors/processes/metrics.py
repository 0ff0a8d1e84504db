"""How is the site, for a machine that asks? Health and Prometheus metrics on a loopback port; nothing that identifies anybody."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from leadglass.doors.command.questions import status
from leadglass.doors.house import House

log = structlog.get_logger()

_NUMBERS = {
    "studies": "Studies in the index",
    "series": "Series in the index",
    "instances": "Current instances",
    "held": "Held versions that wait for a decision",
    "devices": "Enrolled devices",
    "revoked": "Revoked certificates",
    "disk_free_bytes": "Free space where the site lies",
    "disk_total_bytes": "Size of the file system where the site lies",
    "generation": "Generation of the containment state",
    "pending_commitments": "Storage commitments not yet reported",
    "open_associations": "Open connections, over all workers",
    "clock_offset_seconds": "What the time service still has to correct; absent where nobody keeps the clock",
    "oldest_unsynced_seconds": "Age of the oldest event not yet durable",
}


class SiteCollector:
    """The numbers of `leadglass status`, read when asked for."""

    def __init__(self, row: Callable[[], Mapping[str, object]]) -> None:
        self._row = row

    def collect(self) -> Iterator[GaugeMetricFamily]:
        row = self._row()
        for name, meaning in _NUMBERS.items():
            value = row.get(name)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(f"leadglass_{name}", meaning, value=float(value))
        lag = GaugeMetricFamily(
            "leadglass_journal_lag_seconds", "Since a consumer had read everything", labels=["consumer"]
        )
        for consumer, seconds in _table(row.get("journal_lag_seconds")).items():
            lag.add_metric([str(consumer)], float(seconds))
        yield lag
        workers = row.get("workers")
        running = sum(each["pid"] > 0 for each in workers) if isinstance(workers, list) else 0
        yield GaugeMetricFamily("leadglass_workers", "DIMSE workers that serve", value=float(running))
        yield GaugeMetricFamily("leadglass_certificates_expiring", "Certificates about to expire", _count(row))


def registry_of(row: Callable[[], Mapping[str, object]]) -> CollectorRegistry:
    """`row`: what `status` says at that moment."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector(row))
    return registry


def _table(value: object) -> dict[object, float]:
    return dict(value) if isinstance(value, dict) else {}


def _count(row: object) -> float:
    expiring = row.get("certificates_expiring") if isinstance(row, dict) else None
    return float(len(expiring)) if isinstance(expiring, list) else 0.0


def serve_metrics(house: House) -> ThreadingHTTPServer | None:
    """`/health` and `/metrics` on [doors.metrics], loopback only; None where the site names none."""
    door = house.site().doors.metrics
    if door is None:
        return None
    if not ipaddress.ip_address(door.host).is_loopback:
        raise ValueError("[doors.metrics] listens on loopback only")
    registry = registry_of(lambda: next(status(house, {})))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/health":
                healthy = not house.fatal.is_set() and not house.containment_unreadable()
                self._answer(200 if healthy else 503, "application/json", json.dumps({"healthy": healthy}).encode())
            else:
                self._answer(404, "text/plain", b"/health or /metrics\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    try:
        server = ThreadingHTTPServer((door.host, door.port), Handler)
    except OSError as error:  # care does not wait for a metrics port
        log.error("no metrics: the port is taken", listen=f"{door.host}:{door.port}", reason=str(error))
        return None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
