"""The findings of ``charlstm doctor``, compared with those of other programs."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import Run, environment, lines_of

from charlstm import hardware


def test_it_describes_this_computer_and_fails_if_a_required_gpu_is_missing(charlstm: Run) -> None:
    done = charlstm("doctor", "--json", "--require-gpu")
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["gpus"] else 1)
    if not found["gpus"]:
        (line,) = lines_of(done.stderr)
        assert line.startswith("charlstm: --require-gpu: TensorFlow sees no GPU; ")
    assert found["cudnn"] == bool(found["gpus"])
    assert found["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert None not in found["packages"].values()
    assert (found["python"], found["cores"]) == (platform.python_version(), os.cpu_count())
    if sys.platform == "linux":
        kilobytes = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
        assert kilobytes
        assert abs(found["memory"] - 1024 * int(kilobytes[1])) < 2**30
    assert found["writable"]
    assert 0 < found["disk"] <= shutil.disk_usage("/tmp").total


def test_the_page_fits_one_screen_and_leaves_no_files(charlstm: Run, tmp_path: Path) -> None:
    done = charlstm("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = lines_of(done.stdout)
    labels = [line.partition(":")[0] for line in lines if line[0] != " "]
    assert labels == (
        "charlstm platform packages optional processor memory device LSTM precision runs".split()
    )
    assert len(lines) <= 24
    assert max(len(line) for line in lines if sys.executable not in line) <= 80
    assert re.search(r"^device: +(CPU|GPU), ", done.stdout.decode(), re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_a_driver_without_cuda_packages_is_noticed(
    charlstm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").touch()
    monkeypatch.setattr(hardware, "DRIVERS", (tmp_path / "version",))
    if json.loads(charlstm("doctor", "--json").stdout)["gpus"]:
        pytest.skip("there is a GPU")
    assert re.search(
        rb"^GPU: +NVIDIA's driver is installed; pip install 'charlstm\[cuda\]'",
        charlstm("doctor").stdout,
        re.MULTILINE,
    )
    (line,) = lines_of(charlstm("doctor", "--require-gpu").stderr)
    assert line == (
        "charlstm: --require-gpu: TensorFlow sees no GPU, but NVIDIA's driver is installed; "
        "pip install 'charlstm[cuda]'"
    )


def test_a_broken_installation_and_an_unwritable_folder_are_reported(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise OSError('no\\nlibrary')\n")
    (tmp_path / "checkpoints").touch()
    done = subprocess.run(
        [sys.executable, "-m", "charlstm", "doctor"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{tmp_path}:{':'.join(sys.path)}"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"checkpoints/ IS NOT WRITABLE; " in done.stdout
    last = lines_of(done.stderr)[-1]
    assert last == "charlstm: TensorFlow cannot be used: OSError: no library; reinstall it"
    assert b"Traceback" not in done.stderr
