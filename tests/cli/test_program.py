import json
import math
import os
import re
import shlex
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
    run_here,
    start,
    wait_for,
)

from charlstm import __version__
from charlstm.architecture import ModelConfig
from charlstm.cli import program
from charlstm.cli._summary import epoch_line, summary
from charlstm.config import TrainConfig
from charlstm.hardware import has_bfloat16
from charlstm.network.backend import tf
from charlstm.presets import read_config
from charlstm.run.weights_reader import read_checkpoint
from charlstm.training import start as start_training
from charlstm.training.reports import EpochReport
from charlstm.training.settings import Request

HELP = [[], *([name] for name in sorted(program.commands))]


def only_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the only error line, which is the last line."""
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


def test_version_names_keras_and_tensorflow(charlstm: Run) -> None:
    assert re.fullmatch(
        rf"charlstm {__version__}, keras 3\.\d+\.\d+, tensorflow 2\.\d+\.\d+\n",
        charlstm("--version").stdout.decode(),
    )


@pytest.mark.parametrize("command", sorted(program.commands))
def test_every_option_has_a_help_text(command: str) -> None:
    for parameter in program.commands[command].params:
        assert parameter.param_type_name == "argument" or parameter.to_info_dict()["help"]


@pytest.mark.parametrize(
    ("command", "headings"),
    [
        ("train", ["Model", "Training", "Optimizer", "Text", "Saving", "Run"]),
        ("sample", ["Sampling", "Text", "Adaptation", "Records", "Output", "Model"]),
        ("score", ["Options"]),
    ],
)
def test_help_groups_all_options_under_headings(
    command: str, headings: list[str], charlstm: Run
) -> None:
    lines = charlstm(command, "--help").stdout.decode().splitlines()
    assert [line.removesuffix(":") for line in lines if re.fullmatch(r"\w+:", line)] == headings
    listed = [found[1] for line in lines if (found := re.match(r"  (?:-\w, )?(--[\w-]+)", line))]
    options = [p for p in program.commands[command].params if p.param_type_name == "option"]
    assert sorted(listed) == sorted(["--help", *(option.opts[-1] for option in options)])


def test_training_prints_only_the_path_of_the_best_file(trained: Path) -> None:
    printed = (trained.parents[1] / "out").read_text()
    assert re.fullmatch(r"checkpoints/words/epoch-00[12]\.weights\.h5\n", printed)
    assert (trained.parents[1] / printed.strip()).is_file()


def test_a_log_file_has_no_bars_and_no_messages_of_tensorflow(trained: Path) -> None:
    """Its lines have a fixed order; of this text, no character is rare or unseen."""
    log = (trained.parents[1] / "err").read_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log)
    assert not re.search(r"tensorflow|absl|oneDNN|WARNING|^[IWE]\d{4}", log, re.MULTILINE)
    expected = (
        r"charlstm [\d.]+: training on words\.txt, into checkpoints/words",
        r"preset: +small, chosen for \d,\d{3} characters of training text",
        r"text: +\d,\d{3} characters, 27 distinct",
        r"split: +\d,\d{3} for training, \d+ for validation",
        r"batches: +\d+ steps per epoch, each of 3 lanes x 10 characters",
        r"model: +2 x LSTM\(24\), dropout [\d.]+: [\d,]+ parameters",
        rf"device: +CPU, \d+ cores, {'bfloat16' if has_bfloat16() else 'float32'}",
        r"memory: +about \d+\.\d GB",
        *(
            rf"epoch {n}/2: train \d\.\d{{4}}, validation \d\.\d{{4}} nats \(\d\.\d{{3}} bits\), "
            r"[\d,.]+[kM]? char/s"
            for n in (1, 2)
        ),
        r"best: +epoch [12], validation \d\.\d{4} nats \(\d\.\d{4} bits\) per character",
        r"curve: +checkpoints/words/loss\.png",
        r"next: +charlstm sample checkpoints/words",
    )
    places = [re.search(f"^{line}$", log, re.MULTILINE) for line in expected]
    assert all(places), expected[places.index(None)]
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert not re.search("^(rare|unseen):", log, re.MULTILINE)
    samples = re.split(r"^(?:epoch \d/2: .*|best: .*)\n", log, flags=re.MULTILINE)[1:-1]
    assert [len(sample.removesuffix("\n\n")) for sample in samples] == [256, 256]


def test_the_last_lines_of_a_training_name_its_result_and_the_next_command(trained: Path) -> None:
    """The loss is that of the best epoch, the picture exists, and the command works."""
    folder = trained.parents[1]
    labelled = [line.partition(":") for line in (folder / "err").read_text().splitlines()[-3:]]
    lines = {label: content.strip() for label, _, content in labelled}
    assert list(lines) == ["best", "curve", "next"]
    printed = folder / (folder / "out").read_text().strip()
    best = read_checkpoint(printed)
    loss = best.metrics["valid_loss"]
    assert loss is not None
    assert lines["best"] == (
        f"epoch {best.epoch}, validation {loss:.4f} nats ({loss / math.log(2):.4f} bits) "
        "per character"
    )
    assert (folder / lines["curve"]).read_bytes().startswith(b"\x89PNG")
    words = shlex.split(lines["next"])
    assert words[0] == "charlstm"
    done = run_here(folder, *words[1:])
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.decode()) == 256
    assert lines_of(done.stderr)[0].startswith(f"epoch {best.epoch} of checkpoints/words/epoch-")


def test_an_automatic_preset_equals_a_named_one_and_options_override_it(trained: Path) -> None:
    used = tomllib.loads((trained / "config.toml").read_text())
    preset = read_config("small", (ModelConfig, TrainConfig))
    given = {"units", "layers", "batch_size", "sequence_length", "learning_rate", "epochs"}
    assert preset.keys() - given
    assert {n: v for n, v in used.items() if n in preset and n not in given} == {
        n: v for n, v in preset.items() if n not in given
    }
    assert used["epochs"] == 2


def test_the_demo_needs_neither_a_text_nor_options(charlstm: Run, tmp_path: Path) -> None:
    """A warm-up longer than the training is reported; so is the limit that ended it."""
    options = "--demo --units 6 --layers 1 --max-steps 1 --validation 0 --warmup 2"
    done = charlstm("train", *options.split())
    assert done.returncode == 0
    assert "--warmup 2 is longer than the training (1 step), which" in done.stderr.decode()
    again = charlstm("train", "--demo", "--resume")
    assert again.returncode == 0, again.stderr
    reached = "already finished: --max-steps 1 is reached; "
    assert any(line.startswith(reached) for line in lines_of(again.stderr))
    assert lines_of(again.stderr)[-1] == "next:    charlstm sample checkpoints/demo"
    assert (tmp_path / "checkpoints/demo").is_dir()


def test_a_run_folder_holds_the_documented_files(trained: Path) -> None:
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


RARE = "".join(chr(0x3041 + i) for i in range(12))


def summary_of(text: str, words: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the summary of a training on a text, by label; no step is trained."""
    words.write_text(text, "utf-8")
    monkeypatch.chdir(words.parent)
    options = {"units": 3, "layers": 1, "batch_size": 3, "sequence_length": 10}
    with start_training(Request(("words.txt",), options)) as training:
        labelled = [line.partition(":") for line in summary(training)]
    return {label: content.strip() for label, _, content in labelled}


@pytest.mark.parametrize(
    ("rare", "line"),
    [
        (RARE[:3] * 9, None),  # 3 of 31 distinct characters: less than a tenth
        (RARE[:4] * 10, None),  # ten times is often enough
        (
            RARE[:4] * 9,
            r"4 of 32 distinct characters occur fewer than 10 times: .*'い' \(U\+3044\)",
        ),
        (RARE, r"12 of 40 distinct characters occur fewer than 10 times: .* and 4 more"),
    ],
)
def test_rare_characters_are_listed_only_if_they_are_many(
    rare: str, line: str | None, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = summary_of(rare + LONG_TEXT, words, monkeypatch)
    assert "unseen" not in lines
    if line is None:
        assert "rare" not in lines
    else:
        assert re.fullmatch(line, lines["rare"])


@pytest.mark.parametrize(
    ("unseen", "line"),
    [
        ("★", None),  # 1 of 1,760: less than 0.1 %
        (
            "★" * 9,
            (
                "0.5% of the validation characters never occur in the training text: '★' (U+2605)"
                "; --min-count 5 gives rare characters one id"
            ),
        ),
    ],
)
def test_unseen_characters_are_listed_only_if_they_are_many(
    unseen: str, line: str | None, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = summary_of(LONG_TEXT + unseen, words, monkeypatch)
    assert lines.get("unseen") == line
    assert "rare" not in lines


@pytest.mark.parametrize(
    ("epoch", "validation", "rate", "line"),
    [
        (1, 1.9193, 14_512.3, "validation 1.9193 nats (2.769 bits), 14.5k char/s"),
        (20, None, 1_234_567.8, "train 2.6112 nats (3.767 bits), 1.2M char/s"),
        (2, 1.9193, 640.2, "validation 1.9193 nats (2.769 bits), 640 char/s"),
        (999, 4.5678, 999_949.0, "validation 4.5678 nats (6.590 bits), 999.9k char/s"),
    ],
)
def test_an_epoch_is_one_line_of_at_most_80_columns(
    epoch: int, validation: float | None, rate: float, line: str
) -> None:
    report = EpochReport(epoch, 2.6112, validation, rate, Path("a" * 99))
    shown = epoch_line(report, epoch)
    assert shown.startswith(f"epoch {epoch}/{epoch}: train 2.6112")
    assert shown.endswith(line)
    assert len(shown) <= 80


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
    """For errors that need no TensorFlow; each names its cause and a way out."""
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
        "folder": "folder: no files; name a folder with files",
        "-": "-: empty",
        "empty": "empty: empty",
        "same": "same: 'a' is its only character",
        "short": r"one step needs 1,025, .* must have 1,139; .* --batch-size, --sequence-length",
        "latin": r"byte 0xE9 at offset 3, line 1, column 4; .* WINDOWS-1252, use --encoding cp1252",
        "wide": "wide: not UTF-8: .*it is UTF-16: use --encoding utf-16",
        "random": "random: not UTF-8: byte 0x80 at offset 128",
        "short --config bad.toml": r"bad.toml: unknown key 'unit'; did you mean units\?",
        "short --config nowhere": "nowhere: .*the presets are char-rnn, demo,",
        "short --run other": "other: contains notes.txt, which is not part of a run",
        "short --run other --overwrite": "other: contains notes.txt, which is not part of a run",
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
        "--precision float16": "--precision: float16 is slower than float32 on a CPU",
        "--units 400000": "out of memory on the device; reduce --batch-size",
    }.items():
        line = only_line(charlstm("train", words, *SMALL, *options.split()))
        assert complaint in line
    assert list(words.parent.iterdir()) == [words]


@pytest.mark.parametrize(("times", "units"), [(100, "24"), (1, "99")], ids=["ids", "state"])
def test_a_full_disk_is_one_line_and_leaves_nothing(times: int, units: str, words: Path) -> None:
    """A limit on file size stands for a full disk; it is noticed before the first step."""
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


def test_an_existing_run_is_replaced_only_with_overwrite(charlstm: Run, words: Path) -> None:
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
def test_closed_and_full_streams_give_no_traceback(
    command: str, code: int, said: str, trained: Path
) -> None:
    """Reading a closed stream fails, writing to one is discarded, a full disk is one line."""
    if "full" in command and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    program = f"{sys.executable} -m charlstm {command}"
    done = subprocess.run(
        ["bash", "-c", program.replace("RUN", str(trained))],
        env=environment(),
        capture_output=True,
        timeout=60,  # it would wait for ever if it read a pipe of its own as standard input
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
        (["."], r"\.: has no finished epoch yet"),
        (["text"], "text: not a charlstm weights file"),
        (["cut.weights.h5"], r"cut\.weights\.h5: damaged or truncated"),
        ([weights, "--epoch", "1"], "a weights file holds a single epoch; leave out --epoch"),
        ([trained, "--epoch", "3"], "has no epoch 3; it has 1, 2"),
        (
            [trained, "--prime", "the Zyk Z"],
            r"--prime: .*'Z' \(U\+005A\) at character 5, 'y' .* 6, 'k' .* 7; .*--unknown skip",
        ),
        ([trained, "--prime", os.fsdecode(b"\xff")], "--prime: not UTF-8"),
        ([trained, "--stop", os.fsdecode(b"\xff")], "--stop: not UTF-8"),
        ([trained, "--prime-file", "none"], "none: No such file"),
        ([trained, "--prime-file", "."], r"\.: is a directory"),
        ([trained, "--prime-file", "latin"], "latin: not UTF-8: byte 0xE9 at offset 3"),
        ([trained, "-o", "."], r"\.: not a regular file"),
        ([trained, "-o", "/dev/null"], "/dev/null: not a regular file"),
        ([trained, "-o", "text/below"], "text/below: there is no folder .*/text; create it first"),
        ([trained, "-o", "x" * 300], "xxx: cannot be written: File name too long"),
        ([trained, "-o", "circle"], "circle: cannot be written: Too many levels"),
        ([weights, "-o", "copy"], "copy: is also an input; choose another output file"),
        (["copy", "-o", "copy"], "copy: is also an input; choose another output file"),
        ([trained, "--prime-file", "text", "-o", "link"], "link: is also an input"),
        ([trained, "--adapt", "text", "-o", "link"], "link: is also an input"),
    ]
    for arguments, complaint in refused:
        line = only_line(charlstm("sample", *arguments))
        assert re.search(complaint, line), line


def test_too_many_samples_are_one_line(
    charlstm: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is simulated: TensorFlow takes ten seconds to report a lack of memory."""

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
        ([trained, "long", "--html", "page"], "200,004 characters, .* at most 200,000"),
        ([trained, "strange", "--html", "none/page"], "none/page: there is no folder"),
        ([trained, "strange", "--html", "strange"], "strange: is also an input"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, complaint in refused:
        line = only_line(charlstm("score", *arguments))
        assert re.search(complaint, line), line
    assert sorted(tmp_path.iterdir()) == before


def test_a_copied_weights_file_is_enough_to_sample(
    charlstm: Run, trained: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "a.h5"
    copy.write_bytes((trained / "epoch-002.weights.h5").read_bytes())
    options = "--prime the --length 20 --seed 1".split()
    alone = charlstm("sample", "a.h5", *options)
    assert alone.stdout.decode().startswith("the")
    assert len(alone.stdout.decode()) == 23
    assert alone.stdout == charlstm("sample", trained, "--epoch", "last", *options).stdout


def test_settings_of_keras_are_ignored_and_left_alone(
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
    settings.parent.touch()  # a home folder in which no folder can be created
    done = charlstm("sample", trained, "--length", "5", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()


def test_a_closed_pipe_ends_sampling_quietly(trained: Path) -> None:
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


@pytest.mark.parametrize("seconds", [0, 0.5, 1.0])  # while TensorFlow is imported
def test_an_interrupt_before_the_first_step_leaves_nothing(seconds: float, words: Path) -> None:
    process = start(words.parent, "train", words, *SMALL)
    wait_for(words.parent / "checkpoints/.words.part/corpus.json", process)
    time.sleep(seconds)
    interrupt(process)
    assert list(words.parent.iterdir()) == [words]


LOST = """
import os, signal
from charlstm.cli import _interrupt, main, train

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), number)
        raise SystemError

def callback(**_):
    Finalized()
    _interrupt.stop_if_pressed()

number = signal.SIGINT if {pressed} else 0
train.callback = callback
main()
"""


@pytest.mark.parametrize("pressed", [True, False])
def test_an_interrupt_that_a_finalizer_swallows_prints_no_traceback(*, pressed: bool) -> None:
    command = [sys.executable, "-c", LOST.format(pressed=pressed), "train", "x"]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == (130 if pressed else 0)
    assert (b"Traceback" in done.stderr) is not pressed
    assert ("charlstm: interrupted" in lines_of(done.stderr)) is pressed


def test_a_terminal_shows_a_bar_per_epoch_and_an_interrupt_removes_it(words: Path) -> None:
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
    assert re.search(r"\rsaved; continue with: [^\r]*\r\ncharlstm: interrupted\r\n$", shown)


def test_an_interrupt_on_a_terminal_ends_the_line_and_the_colour(
    trained: Path, tmp_path: Path
) -> None:
    options = "--prime the --length inf --color".split()
    typed = [("the.{99}", b"\x03")]
    code, shown = on_a_terminal(tmp_path, "sample", trained, *options, typed=typed)
    assert code == 130, shown
    # Another thread responds to the signal: its line can come before or after the end of the text.
    after = shown.rpartition("^C")[2].replace(
        "\r\ncharlstm: stopping; press Ctrl+C again to quit at once", ""
    )
    assert after.replace("\r\n\r\n", "\r\n").endswith("\x1b[0m\r\ncharlstm: interrupted\r\n")


def test_a_value_from_the_environment_is_not_split_at_blanks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHARLSTM_SAMPLE_STOP", "THE END")
    command = program.commands["sample"]
    context = command.make_context("sample", [], auto_envvar_prefix="CHARLSTM_SAMPLE")
    assert context.params["stop"] == ("THE END",)


def test_a_file_read_as_standard_input_is_refused_as_output(trained: Path, tmp_path: Path) -> None:
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
        assert "text: is also an input" in only_line(done)
