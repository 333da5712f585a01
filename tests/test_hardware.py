"""The cores and the memory that a process may use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from charlstm import hardware
from charlstm.hardware import usable_cores, usable_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS has neither affinity nor cgroups"
)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the cgroup folder of a simulated computer with 8 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def limit(folder: Path, content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(content)


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max 100000", "max 100000", 8),
        ("300000 100000", "max 100000", 3),
        ("250000 100000", "max 100000", 3),  # 2.5 cores, rounded up
        ("max 100000", "200000 100000", 2),  # limited by the parent cgroup
        ("10000 100000", "max 100000", 1),
        ("nonsense", "", 8),
        ("900000 100000", "max 100000", 8),
    ],
)
def test_the_lowest_quota_of_a_cgroup_and_its_ancestors_applies(
    own: str, parent: str, expected: int, cores: Path
) -> None:
    (cores.parent / "own").write_text("0::/job/step\n")
    limit(cores / "job" / "step", own)
    limit(cores / "job", parent)
    assert usable_cores() == expected


def test_quotas_of_cgroups_version_1_apply_as_well(cores: Path) -> None:
    (cores.parent / "own").write_text("12:memory:/job\n3:cpu,cpuacct:/job\n")
    folder = cores / "cpu" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000")
    for quota, expected in (("-1", 8), ("400000", 4)):
        (folder / "cpu.cfs_quota_us").write_text(quota)
        assert usable_cores() == expected


@pytest.mark.parametrize(
    ("own", "folder", "name"),
    [
        ("0::/job/step\n", "job/step", "memory.max"),
        ("0::/job/step\n", "job", "memory.max"),  # limited by the parent cgroup
        ("3:cpu:/other\n12:memory:/job\n", "memory/job", "memory.limit_in_bytes"),
    ],
)
def test_the_memory_is_that_of_the_computer_or_the_limit_of_a_cgroup(
    own: str, folder: str, name: str, cores: Path
) -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usable_memory() == whole
    (cores.parent / "own").write_text(own)
    (cores / folder).mkdir(parents=True)
    for content, expected in (("max", whole), ("2000000000\n", 2 * 10**9), (str(2**63), whole)):
        (cores / folder / name).write_text(content)
        assert usable_memory() == expected


def test_without_cgroups_the_affinity_applies(cores: Path) -> None:
    assert usable_cores() == 8
    assert cores.exists()


def test_the_program_uses_only_the_cores_of_its_affinity() -> None:
    """With one core, as under ``taskset``: groups of rows, recorded versions, and device."""
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from charlstm.network.recurrence import row_groups; from charlstm.training.clock import"
        " versions; from charlstm.network.device import select_device; import json;"
        "groups = len(row_groups(64, 8));"
        "print(json.dumps([groups, versions()['cores'], select_device('cpu').name]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [1, "1", "CPU, 1 core"]
