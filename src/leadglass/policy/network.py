"""What may whoever loads the kernel's table do? Ask which it is, and tell how it went; nothing else."""

from __future__ import annotations

RULE = "operator:network"
REPORT = "network-report"
QUESTIONS = frozenset({"network-table", REPORT})
