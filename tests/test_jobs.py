"""The job script for Slurm, with programs that stand in for Slurm's."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG_TEXT, environment, wait_for

JOBS = Path(__file__).parents[1] / "examples/jobs"
SRUN = """
import os, signal, subprocess, sys
step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
step |= {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
tasks = [
    subprocess.Popen(sys.argv[1:], env={**os.environ, **step, "SLURM_LOCALID": str(task)})
    for task in range(2)
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
open("srun.pid", "w").write(str(os.getpid()))
sys.exit(max(task.wait() for task in tasks))
"""
# Of a size for a test; what the script itself says has precedence.
SMALL = {"UNITS": "8", "LAYERS": "1", "SEQUENCE_LENGTH": "4", "MAX_STEPS": "150", "CONFIG": "small"}


@pytest.mark.slow
def test_the_slurm_job_saves_when_its_time_is_up_and_the_next_one_finishes(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(LONG_TEXT)
    for name, program in {
        "srun": f"#!{sys.executable}{SRUN}",
        "scontrol": '#!/bin/sh\necho "$@" > asked\n',
        "charlstm": f'#!/bin/sh\nexec {sys.executable} -m charlstm "$@"\n',
    }.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)
    variables = {f"CHARLSTM_TRAIN_{name}": value for name, value in SMALL.items()}
    variables |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}

    def submit() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [shutil.which("bash") or "bash", JOBS / "slurm.sh"],
            cwd=tmp_path,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    job = submit()
    wait_for(tmp_path / "checkpoints/input/epoch-001.weights.h5", job)
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGTERM)
    out, err = job.communicate(timeout=100)
    assert (job.returncode, out) == (0, b""), err.decode()
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert b"saved; continue with: " in err

    job = submit()
    out, err = job.communicate(timeout=100)
    assert job.returncode == 0, err.decode()
    assert b"resumes: epoch " in err
    assert (tmp_path / out.decode().strip()).is_file()
