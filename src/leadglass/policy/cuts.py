"""What would stop somebody who holds a member? The cheapest set of flows to close and zones to isolate, and what every way takes anyhow. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from leadglass.policy.pivots import Kind, Terrain, crowns
from leadglass.site.model import ARCHIVE

FLOW_COST, ISOLATION_COST = 1, 3  # of a fix: a flow less, a zone whose hosts no longer see each other
_COST = {Kind.FLOW: FLOW_COST, Kind.ZONE: ISOLATION_COST}
_END = ("end", 0)


@dataclass(frozen=True, slots=True)
class Fix:
    """The cheapest change after which no crown is reached: flows to close or to guard, zones to isolate; none where nothing would do."""

    flows: tuple[str, ...]
    zones: tuple[str, ...]


def fix(terrain: Terrain, member: str) -> Fix:
    """A minimal cut between the member and every crown but itself. Raises KeyError."""
    start = terrain.start(member)
    graph = _cuttable(terrain, start)
    for crown in crowns(terrain.site) - {start}:
        if ("host", crown) in graph:
            graph.add_edge(("host", crown), _END)
    if _END not in graph:
        return Fix((), ())
    # The cut is small, and each way that is found takes one of it: so ways are looked for one by one.
    _, (near, _) = nx.minimum_cut(graph, ("host", start), _END, flow_func=nx.algorithms.flow.edmonds_karp)
    severed = [terrain.gates[number] for kind, number in near if kind == "gate" and ("through", number) not in near]
    return Fix(
        tuple(sorted(gate.name for gate in severed if gate.kind is Kind.FLOW)),
        tuple(sorted(gate.name for gate in severed if gate.kind is Kind.ZONE)),
    )


def _cuttable(terrain: Terrain, start: str) -> Any:
    """Whatever can be reached, each gate as an edge that costs something to cut; all others cannot be cut."""
    graph: Any = nx.DiGraph()
    graph.add_node(("host", start))
    waiting, opened = [start], set[int]()
    while waiting:
        host = waiting.pop()
        for number in terrain.leaving[host]:
            graph.add_edge(("host", host), ("gate", number))
            if number in opened:
                continue
            opened.add(number)
            gate = terrain.gates[number]
            graph.add_edge(("gate", number), ("through", number), capacity=_COST[gate.kind])
            for target in gate.targets:
                if ("host", target) not in graph:
                    waiting.append(target)
                graph.add_edge(("through", number), ("host", target))
    return graph


class Chokes:
    """Which gates every way to archive takes. They are the dominators of the reversed terrain: one look answers for every member."""

    def __init__(self, terrain: Terrain) -> None:
        self._terrain = terrain
        graph: Any = nx.DiGraph()
        graph.add_node(("host", ARCHIVE))
        for host, numbers in terrain.leaving.items():
            graph.add_edges_from((("gate", number), ("host", host)) for number in numbers)
        for number, gate in enumerate(terrain.gates):
            graph.add_edges_from((("host", target), ("gate", number)) for target in gate.targets)
        self._nearer: Mapping[Any, Any] = nx.immediate_dominators(graph, ("host", ARCHIVE))

    def of(self, member: str) -> tuple[str, ...]:
        """Flows and zones that every way from a member to archive takes, the first first. Raises KeyError."""
        return tuple(str(self._terrain.gates[number]) for number in self._on_the_way(self._terrain.start(member)))

    def exposure(self) -> tuple[tuple[str, int], ...]:
        """How many hosts get to archive by each gate or not at all, the most first."""
        counts = Counter(number for host in self._terrain.hosts for number in self._on_the_way(host))
        named = ((str(self._terrain.gates[number]), count) for number, count in counts.items())
        return tuple(sorted(named, key=lambda each: (-each[1], each[0])))

    def _on_the_way(self, host: str) -> Iterator[int]:
        node: Any = ("host", host)
        while node in self._nearer and (nearer := self._nearer[node]) is not None and nearer != node:
            node = nearer
            if node[0] == "gate":
                yield node[1]
