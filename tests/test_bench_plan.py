"""The benchmark of the pipelines: in which order it measures, and what it makes of the figures."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest
from scripts.bench_machine import Version
from scripts.bench_network import Bucket, Link, Network, Traffic
from scripts.bench_plan import Cell, Outcome, cells, in_turn, next_version
from scripts.bench_projects import PROJECTS, changing_name
from scripts.bench_report import (
    BEGIN,
    END,
    Goal,
    Row,
    Spread,
    builds_table,
    goals_table,
    judge,
    put_between,
    rows_of,
    ten_table,
)


def outcome(pipeline: str, *, build: str = "code", pair: int = 0, save: float = 1.0) -> Outcome:
    cell = Cell("shop", "limited", build, pair, pipeline)
    seconds = {"restore": 2.0, "build": 3.0, "save": save}
    return Outcome(cell, seconds, uploaded_bytes=5_000_000, cpu_seconds={"build": 9.0, "save": 0.5})


def row(pipeline: str, *saves: float, build: str = "code") -> Row:
    measured = [
        outcome(pipeline, build=build, pair=pair, save=save) for pair, save in enumerate(saves)
    ]
    return Row("shop", "limited", build, pipeline, tuple(measured))


def test_every_pipeline_is_early_as_often_as_it_is_late() -> None:
    orders = [in_turn("abc", pair) for pair in range(4)]
    for letter in "abc":
        assert sum(order.index(letter) for order in orders) == 4


def test_all_pipelines_are_measured_before_any_is_measured_again() -> None:
    planned = list(cells("shop", "limited", ["code"], ["a", "b"], 2))
    assert [(cell.pair, cell.pipeline) for cell in planned] == [
        (0, "a"),
        (0, "b"),
        (1, "b"),
        (1, "a"),
    ]


def test_builds_come_in_one_order_however_they_are_asked_for() -> None:
    asked = ["ten", "dependency", "nothing"]
    planned = list(cells("shop", "limited", asked, ["a"], 2))
    builds = [cell.build for cell in planned]
    assert builds == ["nothing", "nothing", "dependency", "dependency", "ten"]


def test_only_a_sidecar_exports_beside_a_busy_build() -> None:
    planned = list(cells("shop", "limited", ["busy"], ["b", "h"], 2))
    assert [cell.pipeline for cell in planned] == ["h", "h"]


def test_a_commit_changes_only_what_its_build_is_named_after() -> None:
    assert next_version("nothing", Version(3, 4)) == Version(3, 4)
    assert next_version("code", Version(3, 4)) == Version(4, 4)
    assert next_version("dependency", Version(3, 4)) == Version(3, 5)


def test_ten_builds_never_have_the_same_dependency_twice() -> None:
    assert len({changing_name(number) for number in range(10)}) == 10


def test_a_measurement_survives_the_results_file() -> None:
    before = outcome("b")
    assert Outcome.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_a_median_is_written_with_its_extremes() -> None:
    assert Spread.of([3.0, 1.0, 2.0]).text() == "2.0 (1.0-3.0)"
    assert Spread.of([1234.5]).text() == "1,234.5"


def test_the_last_measurement_of_a_cell_counts() -> None:
    failed = outcome("b")
    failed.error = "it was full"
    [found] = rows_of([failed, outcome("b", save=7.0)])
    assert not found.errors
    assert found.phase("save").median == 7.0


def test_a_table_holds_failures_beside_figures() -> None:
    failed = outcome("d")
    failed.error = "push ended with 1"
    written = builds_table(
        [row("b", 1.0, 5.0, 3.0), Row("shop", "limited", "code", "d", (failed,))]
    )
    lines = written.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert (
        "| (b) tarball, gzip | 2.0 (2.0-2.0) | 3.0 (3.0-3.0) | 3.0 (1.0-5.0) | 8.0 (6.0-10.0)"
        in (lines[2])
    )
    assert "failed: push ended with 1" in lines[3]


def test_the_agents_processor_time_leaves_out_the_build() -> None:
    assert row("b", 1.0).cpu().median == 0.5


def test_what_ten_builds_store_is_told_beside_the_first() -> None:
    ten = outcome("b", build="ten")
    ten.stored_bytes = [100_000_000, 150_000_000, 1_000_000_000]
    found = Row("shop", "limited", "ten", "b", (ten,))
    assert "| 100.0 | 1,000.0 | 10.00 |" in ten_table([found])


@pytest.mark.parametrize(
    ("ours", "met"), [(0.4, "yes"), (0.6, "no")], ids=["below half", "above half"]
)
def test_a_goal_is_a_ratio_of_medians(ours: float, met: str) -> None:
    goal = Goal("2", "", "code", "f", "d", "save", 0.5)
    assert judge(goal, row("f", ours), row("d", 0.1, 1.0, 9.0))[-1] == met


def test_a_goal_may_grant_seconds_on_top() -> None:
    goal = Goal("1", "", "code", "f", "d", "save", 1.0, 0.8)
    assert judge(goal, row("f", 1.7), row("d", 1.0))[-1] == "yes"
    assert judge(goal, row("f", 1.9), row("d", 1.0))[-1] == "no"


def test_the_agents_time_for_each_gib_leaves_out_compression() -> None:
    first = outcome("f", build="first")
    first.image_bytes = 2 << 30
    first.cpu_seconds = {"save": 10.0}
    first.compress_cpu_seconds = 4.0
    assert first.export_cpu_per_gib == 3.0
    found = goals_table([Row("shop", "limited", "first", "f", (first,))])
    assert "| 3.00 s | 4.00 s | yes |" in found


def test_a_busy_build_is_compared_with_itself_alone() -> None:
    busy = Outcome(
        Cell("shop", "limited", "busy", 0, "h"), {"alone": 30.0, "beside an export": 36.0}
    )
    found = goals_table([Row("shop", "limited", "busy", "h", (busy,))])
    assert "| 1.20 | 1.10 | no |" in found


def test_the_start_of_the_command_is_a_goal_of_its_own() -> None:
    assert "| 0.200 s | 0.15 s | no |" in goals_table([], [0.1, 0.2, 0.3])


def test_goals_are_told_only_where_both_sides_were_measured() -> None:
    assert "push" not in goals_table([row("f", 1.0), row("b", 30.0)])
    told = goals_table([row("f", 1.0), row("b", 30.0), row("d", 1.0)])
    assert "beside the tarball" in told
    assert "push" in told


def test_a_report_replaces_the_one_before_it_and_nothing_else() -> None:
    once = put_between("# Title\n\ntext\n", "first")
    again = put_between(once + "\nmore\n", "second")
    assert again == f"# Title\n\ntext\n\n{BEGIN}\n\nsecond\n{END}\n\nmore\n"


def test_a_shared_rate_holds_for_all_transfers_together() -> None:
    bucket = Bucket(1000.0)
    waits = [bucket.wait_for(500, now=10.0) for _ in range(4)]
    assert waits[-1] == pytest.approx(2.0, abs=0.02)
    assert bucket.wait_for(500, now=60.0) == pytest.approx(0.5, abs=0.02)


def test_no_limit_makes_nobody_wait() -> None:
    assert Bucket(0).wait_for(1 << 30, now=0.0) == 0.0


def test_a_link_counts_what_it_passes_and_takes_its_time() -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
            connection.sendall(received * 2)

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer)
        answering.start()
        network = Network("slow", connection_bytes_per_second=10e6)
        with Link(server.getsockname()[1], network) as link:
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", link.port)) as client:
                client.sendall(bytes(1_000_000))
                client.shutdown(socket.SHUT_WR)
                answered = b"".join(iter(lambda: client.recv(1 << 20), b""))
            taken = time.monotonic() - started
            assert link.traffic() == Traffic(up=1_000_000, down=2_000_000)
        answering.join()
    assert len(answered) == 2_000_000
    assert taken > 0.25  # 0.1 s up and 0.2 s down, less what may pass at once


def test_each_project_has_two_services_of_which_one_changes() -> None:
    for project in PROJECTS.values():
        assert [service.changes for service in project.services] == [True, False]


def test_the_documentation_names_the_command() -> None:
    text = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text()
    assert "scripts/bench pipelines" in text
