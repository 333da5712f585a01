"""Shell completion, asked for as a shell does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from charlstm.presets import presets

LIGHT = """#!{python}
import sys
sys.path[:0] = {path}
from charlstm.cli import main
try:
    main()
finally:
    heavy = {{"tensorflow", "keras", "numpy", "h5py", "tqdm", "matplotlib"}} & sys.modules.keys()
    assert not heavy, heavy
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return an executable charlstm that fails if it imports anything heavy."""
    path = tmp_path / "bin" / "charlstm"
    path.parent.mkdir()
    path.write_text(LIGHT.format(python=sys.executable, path=[p for p in sys.path if p]))
    path.chmod(0o755)
    return path


def ask(program: Path, **request: str) -> str:
    done = subprocess.run(
        [program],
        cwd=program.parents[1],
        env=environment(**request),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode()


def completions(program: Path, line: str) -> list[str]:
    """Return the completions for bash at the end of a line, as ``kind,value``."""
    count = len(line.split(" ")) - 1
    return ask(
        program, _CHARLSTM_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(count)
    ).splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_calls_this_program(shell: str, program: Path) -> None:
    source = ask(program, _CHARLSTM_COMPLETE=f"{shell}_source")
    assert f"_CHARLSTM_COMPLETE={shell}_complete" in source
    assert source.rstrip().splitlines()[-1].strip()
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=source.encode(), check=True)


def test_commands_options_and_choices_are_completed(program: Path) -> None:
    assert completions(program, "charlstm s") == ["plain,sample", "plain,score", "plain,show"]
    assert completions(program, "charlstm --version tr") == ["plain,train"]
    assert completions(program, "charlstm train --unit") == ["plain,--units"]
    assert completions(program, "charlstm train --optimizer ada") == ["plain,adam", "plain,adagrad"]
    assert completions(program, "charlstm train --config nowhere --demo --dev") == [
        "plain,--device"
    ]


def test_files_folders_and_presets_are_completed(program: Path) -> None:
    assert completions(program, "charlstm train inp") == ["file,inp"]
    assert completions(program, "charlstm show check") == ["file,check"]
    assert completions(program, "charlstm sample check") == ["file,check"]
    assert completions(program, "charlstm train --run check") == ["dir,check"]
    assert completions(program, "charlstm train --config ") == [
        *(f"plain,{name}" for name in presets()),
        "file,",
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_also_get_the_help_texts(shell: str, program: Path) -> None:
    words = {
        "COMP_WORDS": "charlstm train --overw",
        "COMP_CWORD": "2" if shell == "zsh" else "--overw",
    }
    answer = ask(program, _CHARLSTM_COMPLETE=f"{shell}_complete", **words)
    assert "--overwrite" in answer
    assert "Replace the run in its folder." in answer


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has a bash without compopt")
def test_bash_completes_with_the_line_from_the_manual(program: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    line = 'eval "$(_CHARLSTM_COMPLETE=bash_source charlstm)"'
    assert line in manual
    script = (
        f"{line}; COMP_WORDS=(charlstm doctor --re); COMP_CWORD=2; "
        "set -- $(complete -p charlstm | grep -o -e '-F .*'); "
        '"$2" charlstm; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(PATH=f"{program.parent}:{os.environ['PATH']}"),
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"--require-gpu\n", b"")
