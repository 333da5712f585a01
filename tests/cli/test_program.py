import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from conftest import (
    LONG_TEXT,
    SMALL,
    Run,
    environment,
    interrupt,
    lines_of,
    on_a_terminal,
    start,
    wait_for,
)

from charlstm import __version__
from charlstm.architecture import ModelConfig
from charlstm.cli import program
from charlstm.config import TrainConfig, read_config
from charlstm.network.backend import tf

HELP = [[], *([name] for name in sorted(program.commands))]


def only_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line that an error is, after the one that says what will be done."""
    lines = [line for line in lines_of(done.stderr) if line.startswith("charlstm: ")]
    assert done.returncode == 1, done.stderr.decode()
    assert len(lines) == 1
    assert lines_of(done.stderr)[-1] == lines[0]
    assert done.stdout == b""
    return lines[0]


WITHOUT_IMPORTS = """
import sys
from charlstm.cli import main
sys.argv = ["charlstm", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"tensorflow", "keras", "numpy", "h5py", "tqdm", "matplotlib"} & sys.modules.keys()
    assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        *(([*command, "--help"], 0) for command in HELP),
        (["--version"], 0),
        (["wat"], 2),
        (["train"], 2),
        (["train", "a", "--demo"], 2),
        (["train", "a", "--units", "none"], 2),
        (["train", "a", "--dropout", "1"], 2),
        (["sample", "--temperature", "-1"], 2),
        (["sample", "--epoch", "0"], 2),
        (["sample", "--length", "-1"], 2),
        (["sample", "--stop", ""], 2),
        (["sample", "--top-k", "0"], 2),
        (["sample", "--top-p", "0"], 2),
        (["sample", "--top-p", "1.1"], 2),
        (["sample", "--min-p", "1"], 2),
        (["sample", "--min-p", "-0.1"], 2),
        (["sample", "--temperature", "0", "--min-p", "0"], 2),
        (["sample", "--prime", "a", "--prime-file", "b"], 2),
        (["sample", "--length", "inf", "--json"], 2),
        (["sample", "--length", "inf", "--samples", "2"], 2),
        (["sample", "--interactive", "-o", "file"], 2),
        (["export", "-o", "file"], 2),
        (["export", "--format", "onnx"], 2),
        (["export", "--format", "onnx", "-o", ""], 2),
        (["export", "--format", "keras", "-o", "a.keras", "--precision", "int8"], 2),
        (["sample", "--interactive", "--hide-prime"], 2),
        (["sample", "--samples", str(10**18)], 2),
        (["sample", "-o", ""], 2),
        (["score", "a", "--html", ""], 2),
        (["score"], 2),
        (["score", "a", "b", "c"], 2),
    ],
)
def test_help_version_and_usage_import_nothing_heavy(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_IMPORTS, *arguments],
        capture_output=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_version_names_what_computes(charlstm: Run) -> None:
    assert re.fullmatch(
        rf"charlstm {__version__}, keras 3\.\d+\.\d+, tensorflow 2\.\d+\.\d+\n",
        charlstm("--version").stdout.decode(),
    )


@pytest.mark.parametrize("command", HELP)
def test_readme_shows_the_help_as_it_is(command: list[str], charlstm: Run) -> None:
    """README holds every help text, 80 columns wide, under the command that prints it."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    shown = " ".join(["$ charlstm", *command, "--help"])
    printed = charlstm(*command, "--help", COLUMNS="80").stdout.decode()
    assert f"```console\n{shown}\n{printed}```\n" in readme


@pytest.mark.parametrize("command", sorted(program.commands))
def test_every_option_has_a_help(command: str) -> None:
    for parameter in program.commands[command].params:
        assert parameter.param_type_name == "argument" or parameter.to_info_dict()["help"]


def test_training_prints_the_best_file_and_nothing_else(trained: Path) -> None:
    printed = (trained.parents[1] / "out").read_text()
    assert re.fullmatch(r"checkpoints/words/epoch-00[12]\.weights\.h5\n", printed)
    assert (trained.parents[1] / printed.strip()).is_file()


def test_a_log_file_has_lines_and_no_bars_and_no_chatter(trained: Path) -> None:
    log = (trained.parents[1] / "err").read_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log)
    assert not re.search(r"tensorflow|absl|oneDNN|WARNING|^[IWE]\d{4}", log, re.MULTILINE)
    expected = (
        r"charlstm [\d.]+: training on words\.txt, into checkpoints/words",
        r"preset: +small, chosen for \d,\d{3} characters of training",
        r"text: +\d,\d{3} characters, 27 distinct",
        r"rarest: +.*\(U\+[0-9A-F]{4,}\) \d+",
        r"split: +\d,\d{3} for training, \d+ for validation",
        r"batches: +\d+ steps per epoch of 3 x 10 characters; \d+ at the end are not used",
        r"model: +2 x LSTM\(24\), dropout [\d.]+: [\d,]+ parameters",
        r"device: +CPU, \d+ cores, float32",
        r"memory: +about \d+\.\d GB",
        *(
            rf"epoch {n} of 2: train [\d.]+ nats \([\d.]+ bits per character\), validation [\d.]+ "
            rf"nats \([\d.]+ bits per character\); [\d,]+ characters/s; \S+/epoch-00{n}.weights.h5"
            for n in (1, 2)
        ),
    )
    places = [re.search(f"^{line}$", log, re.MULTILINE) for line in expected]
    assert all(places), expected[places.index(None)]
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    after = re.split(r"^epoch \d of 2: .*\n", log, flags=re.MULTILINE)[1:]
    assert [len(sample.removesuffix("\n\n")) for sample in after] == [256, 256]


def test_a_preset_is_as_if_named_and_options_override_it(trained: Path) -> None:
    used = tomllib.loads((trained / "config.toml").read_text())
    preset = read_config("small", (ModelConfig, TrainConfig))
    given = {"units", "layers", "batch_size", "sequence_length", "learning_rate", "epochs"}
    assert preset.keys() - given
    assert {n: v for n, v in used.items() if n in preset and n not in given} == {
        n: v for n, v in preset.items() if n not in given
    }
    assert used["epochs"] == 2


def test_what_the_demo_has_by_itself_is_not_asked_for(charlstm: Run, tmp_path: Path) -> None:
    """A warm-up longer than the training is said; what has ended it, too."""
    options = "--demo --units 6 --layers 1 --max-steps 1 --validation 0 --warmup 2"
    done = charlstm("train", *options.split())
    assert done.returncode == 0
    assert "--warmup 2 is longer than the whole training, of 1 steps: " in done.stderr.decode()
    again = charlstm("train", "--demo", "--resume")
    assert again.returncode == 0, again.stderr
    assert lines_of(again.stderr)[-1].startswith("finished already: --max-steps 1 is reached;")
    assert (tmp_path / "checkpoints/demo").is_dir()


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        *("config.toml", "corpus.ids", "corpus.json", "history.jsonl"),
        *("epoch-001.weights.h5", "epoch-002.weights.h5", "resume.weights.h5", ".lock"),
        "loss.png",
    }
    corpus = json.loads((trained / "corpus.json").read_text())
    assert corpus["size"] == (trained.parents[1] / "words.txt").stat().st_size
    assert len(corpus["vocabulary"]) == len(corpus["counts"]) == 27
    assert corpus["id_bytes"] == 1
    assert sum(corpus["counts"]) == (trained / "corpus.ids").stat().st_size


def test_characters_only_in_the_validation_part_are_named(charlstm: Run, words: Path) -> None:
    words.write_text(LONG_TEXT + "★", "utf-8")
    done = charlstm("train", words, *SMALL, "--max-steps", "1")
    assert "unseen:  only the validation part has '★' (U+2605)" in done.stderr.decode()


def test_a_runs_configuration_repeats_it(charlstm: Run, words: Path) -> None:
    charlstm("train", words, *SMALL, *"--max-steps 5 --seed 3 --epsilon 1e-5".split())
    folder = words.parent / "checkpoints"
    done = charlstm(
        *("train", words, "--run", "checkpoints/again"),
        *("--config", "checkpoints/words/config.toml"),
    )
    assert done.stdout == b"checkpoints/again/epoch-001.weights.h5\n"
    first, again = (folder / name for name in ("words", "again"))
    assert (first / "config.toml").read_bytes() == (again / "config.toml").read_bytes()
    losses = [
        json.loads((run / "history.jsonl").read_text().splitlines()[-1]) for run in (first, again)
    ]
    assert losses[0]["train_loss"] == losses[1]["train_loss"]
    assert losses[0]["valid_loss"] == losses[1]["valid_loss"]


def test_command_line_beats_environment_beats_file_beats_default(
    charlstm: Run, words: Path
) -> None:
    (words.parent / "mine.toml").write_text("units = 11\nlayers = 1\nbatch_size = 3\nseed = 9\n")
    done = charlstm(
        *("train", words, "--config", "mine.toml", "--units", "13", "--max-steps", "1"),
        CHARLSTM_TRAIN_UNITS="12",
        CHARLSTM_TRAIN_BATCH_SIZE="4",
    )
    assert done.returncode == 0, done.stderr.decode()
    config = (words.parent / "checkpoints/words/config.toml").read_text().splitlines()
    for line in ("units = 13", "batch_size = 4", "layers = 1", "seed = 9", "epochs = 20"):
        assert line in config


def test_errors_are_one_line_and_leave_nothing(charlstm: Run, tmp_path: Path) -> None:
    """Errors that need no TensorFlow: each is named, and how to go on."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "same").write_text("aaaa")
    (tmp_path / "short").write_text("0123456789")
    (tmp_path / "latin").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "wide").write_bytes("hello".encode("utf-16"))
    (tmp_path / "random").write_bytes(bytes(range(256)))
    (tmp_path / "bad.toml").write_text("unit = 3")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    for arguments, complaint in {
        "none": "none: No such file or directory",
        "folder": "folder: a directory",
        "-": "-: the text is read twice",
        "empty": "empty: empty",
        "same": "same: only 'a', over and over",
        "short": r"one step needs 1,025, .* must have 1,139; .* --batch-size, --sequence-length",
        "latin": r"byte 0xE9 at offset 3, line 1, column 4; .*iconv -f WINDOWS-1252",
        "wide": "wide: not UTF-8: .*iconv -f UTF-16 -t UTF-8 wide",
        "random": "random: not UTF-8: byte 0x80 at offset 128",
        "short --config bad.toml": r"bad.toml: unknown key 'unit'; did you mean units\?",
        "short --config nowhere": "nowhere: .*shipped configurations are char-rnn, demo,",
        "short --run other": "other: holds notes.txt, which is not part of a run",
        "short --run other --overwrite": "other: holds notes.txt, which is not part of a run",
        "short --run empty/below": "empty/below: cannot be written",
    }.items():
        line = only_line(charlstm("train", *arguments.split()))
        assert re.search(complaint, line), line
    assert sorted(tmp_path.rglob("*")) == before


def test_errors_of_the_device_are_one_line_and_leave_nothing(charlstm: Run, words: Path) -> None:
    if charlstm("train", words, *SMALL, *"--device gpu --max-steps 1".split()).returncode == 0:
        pytest.skip("there is a GPU")
    for options, complaint in {
        "--device gpu": "TensorFlow sees no GPU",
        "--precision float16": "--precision: float16: on a CPU it is slower",
        "--units 400000": "out of memory on the device; reduce --batch-size",
    }.items():
        line = only_line(charlstm("train", words, *SMALL, *options.split()))
        assert complaint in line
    assert list(words.parent.iterdir()) == [words]


@pytest.mark.parametrize(("times", "units"), [(100, "24"), (1, "99")], ids=["ids", "state"])
def test_a_full_disk_is_one_line_and_leaves_nothing(times: int, units: str, words: Path) -> None:
    """A limit on the size of files stands for a full disk; it is noticed before the first step."""
    words.write_text(LONG_TEXT * times, "utf-8")
    done = subprocess.run(
        [
            *("bash", "-c", 'ulimit -f 100; trap "" XFSZ; exec "$@"', "-"),
            *(sys.executable, "-m", "charlstm", "train", "words.txt", *SMALL, "--units", units),
        ],
        cwd=words.parent,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert "checkpoints/words: cannot be written: File too large" in only_line(done)
    assert list(words.parent.iterdir()) == [words]


def test_a_run_that_exists_is_kept_unless_told(charlstm: Run, words: Path) -> None:
    folder = words.parent / "checkpoints/words"
    charlstm("train", words, *SMALL, "--max-steps", "1")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "replace it with --overwrite" in only_line(charlstm("train", words, *SMALL))
    only_line(charlstm("train", words, "--overwrite", "--batch-size", "99999"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "epoch-007.weights.h5").touch()
    encoding = (folder / "corpus.ids").stat().st_ino
    done = charlstm("train", words, *SMALL, *"--max-steps 1 --overwrite --seed 2".split())
    assert done.returncode == 0
    assert {path.name for path in folder.iterdir()} == before.keys()
    assert (folder / "config.toml").read_bytes() != before["config.toml"]
    assert (folder / "corpus.ids").stat().st_ino == encoding  # the text has not changed
    words.write_bytes(words.read_bytes()[::-1])
    charlstm("train", words, *SMALL, *"--max-steps 1 --overwrite".split())
    assert (folder / "corpus.ids").read_bytes() == before["corpus.ids"][::-1]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("score RUN - <&-", 1, "charlstm: -: Bad file descriptor"),
        ("sample RUN --prime-file - <&-", 1, "charlstm: -: Bad file descriptor"),
        ("show RUN >&-", 0, ""),
        ("show RUN 2>&-", 0, ""),
        ("show none <&- >&- 2>&-", 1, ""),
        *(
            (f"{shown} >/dev/full", 1, "charlstm: standard output: No space left on device")
            for shown in ("--version", "show --help", "show RUN --json")
        ),
    ],
)
def test_streams_that_are_closed_or_full_are_no_bug(
    command: str, code: int, said: str, trained: Path
) -> None:
    """What is to be read fails, what is to be written goes nowhere, a full disk is one line."""
    if "full" in command and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    program = f"{sys.executable} -m charlstm {command}"
    done = subprocess.run(
        ["bash", "-c", program.replace("RUN", str(trained))],
        env=environment(),
        capture_output=True,
        timeout=60,  # a pipe of its own that is read for standard input never ends
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    assert lines_of(done.stderr)[-1:] == [said] * bool(said)
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr


def test_errors_of_sampling_are_one_line(charlstm: Run, trained: Path, tmp_path: Path) -> None:
    weights = trained / "epoch-002.weights.h5"
    (tmp_path / "cut.weights.h5").write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "text").write_text("hello")
    (tmp_path / "latin").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "copy").hardlink_to(weights)
    (tmp_path / "link").symlink_to("text")
    refused: list[tuple[list[str | Path], str]] = [
        ([], r"checkpoints/: no run with a finished epoch"),
        (["none"], "none: no such run or weights file"),
        (["."], r"\.: no finished epoch in it"),
        (["text"], "text: not a weights file of charlstm"),
        (["cut.weights.h5"], r"cut\.weights\.h5: damaged or cut short"),
        (
            [weights, "--epoch", "1"],
            "one weights file, so no epoch can be chosen; leave out --epoch",
        ),
        ([trained, "--epoch", "3"], "has no epoch 3; there are 1, 2"),
        (
            [trained, "--prime", "the Zyk Z"],
            r"--prime: .*'Z' \(U\+005A\) at character 5, 'y' .* 6, 'k' .* 7; .*--unknown skip",
        ),
        ([trained, "--prime", os.fsdecode(b"\xff")], "--prime: not UTF-8"),
        ([trained, "--stop", os.fsdecode(b"\xff")], "--stop: not UTF-8"),
        ([trained, "--prime-file", "none"], "none: No such file"),
        ([trained, "--prime-file", "."], r"\.: a directory"),
        ([trained, "--prime-file", "latin"], "latin: not UTF-8: byte 0xE9 at offset 3"),
        ([trained, "-o", "."], r"\.: not a regular file"),
        ([trained, "-o", "/dev/null"], "/dev/null: not a regular file"),
        ([trained, "-o", "text/below"], "text/below: there is no folder .*/text"),
        ([trained, "-o", "x" * 300], "xxx: cannot be written: File name too long"),
        ([trained, "-o", "circle"], "circle: cannot be written: Too many levels"),
        ([weights, "-o", "copy"], "copy: it is what is read"),
        (["copy", "-o", "copy"], "copy: it is what is read"),
        ([trained, "--prime-file", "text", "-o", "link"], "link: it is what is read"),
    ]
    for arguments, complaint in refused:
        line = only_line(charlstm("sample", *arguments))
        assert re.search(complaint, line), line


def test_too_many_texts_at_once_are_one_line(
    charlstm: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow waits for ten seconds before it says that there is no memory."""

    def full(*_: object, **__: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("charlstm.sampling.build_model", full)
    line = only_line(charlstm("sample", trained, "--samples", str(2**40)))
    assert "out of memory on the device; reduce --samples (now 1,099,511,627,776)" in line


def test_errors_of_scoring_are_one_line(charlstm: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("t")
    (tmp_path / "long").write_text("the " * 50_001)
    (tmp_path / "strange").write_text("the Zyk Z")
    (tmp_path / "latin").write_bytes("caf\xe9".encode("latin-1"))
    refused: list[tuple[list[str | Path], str]] = [
        (["one"], r"checkpoints/: no run with a finished epoch"),
        ([trained, "none"], "none: No such file"),
        ([trained, "-"], "-: scoring needs at least 2 characters"),
        ([trained, "one"], "one: scoring needs at least 2 characters"),
        ([trained, "latin"], "latin: not UTF-8: byte 0xE9 at offset 3"),
        ([trained, "strange"], r"'Z' \(U\+005A\) at character 5, 'y' \(U\+0079\) at"),
        ([trained, "long", "--html", "page"], "200,004 characters are too many .* 200,000"),
        ([trained, "strange", "--html", "none/page"], "none/page: there is no folder"),
        ([trained, "strange", "--html", "strange"], "strange: it is what is read"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, complaint in refused:
        line = only_line(charlstm("score", *arguments))
        assert re.search(complaint, line), line
    assert sorted(tmp_path.iterdir()) == before


def test_one_weights_file_elsewhere_is_enough(charlstm: Run, trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.h5"
    copy.write_bytes((trained / "epoch-002.weights.h5").read_bytes())
    options = "--prime the --length 20 --seed 1".split()
    alone = charlstm("sample", "a.h5", *options)
    assert alone.stdout.decode().startswith("the")
    assert len(alone.stdout.decode()) == 23
    assert alone.stdout == charlstm("sample", trained, "--epoch", "last", *options).stdout


def test_settings_of_keras_are_neither_used_nor_written(
    charlstm: Run, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / ".keras").mkdir()
    settings = tmp_path / ".keras" / "keras.json"
    settings.write_text('{"floatx": "float16", "backend": "torch", "epsilon": 0.5}')
    done = charlstm("sample", trained, "--length", "5", HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr.decode()
    assert "torch" in settings.read_text()
    settings.unlink()
    settings.parent.rmdir()
    settings.parent.touch()  # a home in which no folder can be made
    done = charlstm("sample", trained, "--length", "5", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()


def test_a_closed_pipe_ends_it_quietly(trained: Path) -> None:
    done = subprocess.run(
        [
            *("bash", "-c", 'set -o pipefail; "$@" | head -c 100', "-"),
            *(sys.executable, "-m", "charlstm", "sample", trained, "--length", "inf"),
            *("--seed", "1"),
        ],
        env=environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stdout) == 100
    assert len(lines_of(done.stderr)) == 1


@pytest.mark.parametrize("seconds", [0, 0.7, 1.4])  # TensorFlow is being imported
def test_interrupted_before_the_first_step_leaves_nothing(seconds: float, words: Path) -> None:
    process = start(words.parent, "train", words, *SMALL)
    wait_for(words.parent / "checkpoints/.words.part/corpus.json", process)
    time.sleep(seconds)
    interrupt(process)
    assert list(words.parent.iterdir()) == [words]


def test_a_terminal_shows_a_bar_an_epoch_and_interrupted_none_is_left(words: Path) -> None:
    code, shown = on_a_terminal(
        words.parent,
        "train",
        words,
        *SMALL,
        "--epochs",
        "9999",
        typed=[(r"epoch 2: +[1-9]", b"\x03")],
    )
    assert code == 130, shown
    for epoch in ("1", "2"):
        assert re.search(rf"epoch {epoch}: +\d+%\|.*\dk? characters/s, loss \d\.\d+", shown)
    assert re.search(r"\rsaved; go on with: [^\r]*\r\ncharlstm: interrupted\r\n$", shown)


def test_interrupted_on_a_terminal_a_text_ends_its_line_too(trained: Path, tmp_path: Path) -> None:
    """And its colour."""
    options = "--prime the --length inf --color".split()
    typed = [("the.{99}", b"\x03")]
    code, shown = on_a_terminal(tmp_path, "sample", trained, *options, typed=typed)
    assert code == 130, shown
    # Another thread answers the signal: its line can come before the end of the text's, or after.
    after = shown.rpartition("^C")[2].replace(
        "\r\ncharlstm: stopping; once more ends it at once", ""
    )
    assert after.replace("\r\n\r\n", "\r\n").endswith("\x1b[0m\r\ncharlstm: interrupted\r\n")


def test_a_text_in_the_environment_is_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLSTM_SAMPLE_STOP", "THE END")
    command = program.commands["sample"]
    context = command.make_context("sample", [], auto_envvar_prefix="CHARLSTM_SAMPLE")
    assert context.params["stop"] == ("THE END",)


def test_a_file_that_is_read_as_standard_input_is_not_written_either(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("the text")
    for command in ("score RUN - --html text", "sample RUN --prime-file - -o text"):
        program = f"{sys.executable} -m charlstm {command} <text"
        done = subprocess.run(
            ["bash", "-c", program.replace("RUN", str(trained))],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            check=False,
        )
        assert "text: it is what is read" in only_line(done)
