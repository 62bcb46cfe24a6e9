"""Brokers that a test may break, and the table of figures that the suite ends with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.local import kafka
from infra.local.cluster import Cluster, start_cluster
from infra.local.kafka import Broker

if TYPE_CHECKING:
    # Not here at run time: this file is read before the tests' filters of warnings are set.
    from fault_check import Findings

COUNTS = ("records", "lost", "twice", "damaged", "disordered", "replayed")
COLUMNS = ("row", "fault", *COUNTS, "gap_s", "recover_s", "note")
ROWS: list[dict[str, object]] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)
            # A machine that does other work too takes its time.
            item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line per row, and keep them where LATENTSTREAM_FAULTS says."""
    if not ROWS:
        return
    cells = [COLUMNS, *(tuple(str(row.get(name, "-")) for name in COLUMNS) for row in ROWS)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS))]
    terminalreporter.write_sep("-", "faults")
    for line in cells:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if "LATENTSTREAM_FAULTS" in os.environ:
        Path(os.environ["LATENTSTREAM_FAULTS"]).write_text(json.dumps(ROWS, indent=1))


@pytest.fixture(scope="session")
def note() -> Callable[..., None]:
    """Write a row of the table: ``note("B1", "broker restart", findings, gap_s=4.2)``."""

    def note(row: str, fault: str, found: Findings | None = None, **figures: object) -> None:
        counts: dict[str, object] = {}
        if found is not None:
            counts = {"records": found.records, "lost": len(found.lost), "twice": len(found.duplicated)}
            counts |= {"damaged": len(found.damaged), "disordered": found.disordered, "replayed": found.replayed}
        rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in figures.items()}
        ROWS.append({"row": row, "fault": fault, **counts, **rounded})

    return note


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test alone, to be stopped and killed."""
    yield kafka.start(tmp_path / "kafka")
    kafka.stop(tmp_path / "kafka")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers; a test leaves all of them running."""
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop_all()
