"""Several Kafka nodes on this machine as one cluster, each broker and controller at once.

    folder/1, folder/2, folder/3   a folder per node, as infra.local.kafka describes it

Every topic has a copy on each node, and a write waits for all but one of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import kafka, processes
from infra.local.kafka import HOST, Broker


@dataclass
class Cluster:
    """Nodes that know each other, by number from 1.

    Args:
        folder: where each has a folder of its own.
        ports: where each listens for clients.
        controllers: where each listens for the others.
        cluster_id: what they share.
        properties: further settings of all.
        brokers: those that run.
    """

    folder: Path
    ports: list[int]
    controllers: list[int]
    cluster_id: str
    properties: Mapping[str, str] = field(default_factory=dict)
    brokers: dict[int, Broker] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """``host:port`` of all nodes, for Kafka clients."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def start(self, number: int) -> None:
        """Start one node, and wait until it answers.

        Raises:
            ConnectError: it did not come up.
        """
        self.brokers[number] = kafka.start(
            self.folder / str(number),
            port=self.ports[number - 1],
            properties=self._properties(number),
            cluster_id=self.cluster_id,
        )

    def stop(self, number: int) -> None:
        """End one node cleanly: it hands its partitions over first."""
        kafka.stop(self.folder / str(number))
        self.brokers.pop(number, None)

    def kill(self, number: int) -> None:
        """End one node as a power cut would."""
        os.kill(self.brokers[number].pid, signal.SIGKILL)
        kafka.stop(self.folder / str(number))
        self.brokers.pop(number)

    def stop_all(self) -> None:
        """End all nodes; without a majority none can hand over, so all are ended at once."""
        with ThreadPoolExecutor(len(self.ports)) as pool:
            list(pool.map(self.stop, range(1, len(self.ports) + 1)))

    def _properties(self, number: int) -> dict[str, str]:
        copies = str(len(self.ports))
        majority = str(len(self.ports) // 2 + 1)
        voters = ",".join(f"{node}@{HOST}:{port}" for node, port in enumerate(self.controllers, 1))
        port, controller = self.ports[number - 1], self.controllers[number - 1]
        return {
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            "default.replication.factor": copies,
            "min.insync.replicas": majority,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": majority,
            **self.properties,
        }


def start_cluster(folder: Path, nodes: int = 3, properties: Mapping[str, str] | None = None) -> Cluster:
    """Start all nodes of a new cluster, and wait until each answers.

    Raises:
        ConnectError: one did not come up.
    """
    ports = processes.free_ports(2 * nodes)
    cluster = Cluster(folder, ports[:nodes], ports[nodes:], kafka.make_cluster_id(), properties or {})
    # Together: none answers before a majority is there.
    with ThreadPoolExecutor(nodes) as pool:
        list(pool.map(cluster.start, range(1, nodes + 1)))
    return cluster
