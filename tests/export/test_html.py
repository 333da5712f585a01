"""The page that writes, in a real browser: it must write what ``charlstm sample`` writes."""

import json
import random
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, complaints
from conftest import LONG_TEXT, SMALL, Run, lines_of, run_here

from charlstm.architecture import ModelConfig, shapes
from charlstm.errors import CharlstmError
from charlstm.export import artifact, check, html
from charlstm.export.chromium import chromium_path
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.text.vocabulary import Vocabulary

TEXT = f"{LONG_TEXT}naïve αβγ 学而时习 👩\u200d🚀 e\u0301 </script> <!-- \u2028 \u202e !\n" * 3
PAGES = Path(html.__file__).parents[1] / "pages"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on a text with hostile characters, with a page of it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "words.txt").write_text(TEXT, "utf-8")
    options = "--epochs 1 --max-steps 400 --sample-every 0".split()
    for command in (
        ["train", "words.txt", *SMALL, *options],
        ["export", "--format", "html", "--precision", "float32", "-o", "page.html"],
    ):
        done = run_here(folder, *command)
        assert done.returncode == 0, done.stderr
    assert "page.html: 0.1 MB, checked on" in done.stderr.decode()
    return folder


def wait(page: Browser) -> None:
    for _ in range(600):
        if page.value("document.body.dataset.state") == "ready":
            return
        time.sleep(0.05)
    raise AssertionError(page.value("status.textContent"))


def choose(page: Browser, **settings: object) -> None:
    for name, value in settings.items():
        page.value(f"$({json.dumps(name)}).value = {json.dumps(str(value))}")


def press(page: Browser, button: str) -> None:
    """Press a button, and wait until the page has nothing left to do."""
    page.value(f"document.body.dataset.state = 'busy'; $({json.dumps(button)}).click()")
    wait(page)


@pytest.fixture
def page(chromium: Browser, run: Path) -> Browser:
    chromium.open(run / "page.html")
    wait(chromium)
    return chromium


def sampled(run: Path, *options: str) -> str:
    done = run_here(run, "sample", "checkpoints/words", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


SETTINGS = [
    {"temperature": 0, "prime": "the "},
    {"seed": 7, "prime": "quick"},
    {"seed": 4294967295},
    {"seed": 3, "prime": "naïve 👩\u200d🚀", "temperature": 1.5, "top_k": 5},
    {"seed": 4, "top_p": 0.8, "min_p": 0.02},
    {"seed": 5, "top_k": 9, "top_p": 0.7, "temperature": 2},
    {"seed": 6, "prime": "</script><!--\u2028\u202e", "stop": "the"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_page_writes_what_sample_writes(
    page: Browser, run: Path, settings: dict[str, object]
) -> None:
    choose(page, length=150, **settings)
    press(page, "write")
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in settings.items()]
    expected = sampled(run, "--length", "150", *(word for pair in pairs for word in pair))
    assert page.value("plain()") == expected
    assert complaints(page) == [page.value("url")]


def test_a_text_has_the_score_of_the_program(page: Browser, run: Path) -> None:
    scored = "the lazy fox e\u0301\njumps"
    choose(page, prime=scored)
    press(page, "score")
    done = run_here(run, "score", "checkpoints/words", "-", "--json", given=scored.encode())
    bits = json.loads(done.stdout)["bits_per_char"]
    assert page.value("plain()") == scored
    assert float(page.value("status.textContent").split()[3]) == pytest.approx(bits, abs=1e-3)


def test_a_text_that_is_paused_continues_as_if_it_had_not_been(page: Browser, run: Path) -> None:
    choose(page, length=60, seed=8, prime="the ")
    press(page, "write")
    choose(page, length=90)
    page.value("$('go').click()")
    page.value("$('pause').click()")
    wait(page)
    count = page.value("written.length")
    choose(page, length=150 + 4 - count)
    press(page, "go")
    assert page.value("plain()") == sampled(run, *"--length 150 --seed 8 --prime".split(), "the ")


def test_one_can_go_on_from_a_character_with_another(page: Browser, run: Path) -> None:
    choose(page, length=80, temperature=0, prime="the quick")
    press(page, "write")
    for at in (70, 33, 17, 2):
        before = page.value("plain()")
        page.value(f"text.childNodes[{at}].click()")
        assert page.value("tip.querySelectorAll('button').length") == 5
        choose(page, length=20)
        page.value("document.body.dataset.state = 'busy'")
        page.value("tip.querySelectorAll('button')[1].click()")
        wait(page)
        found = page.value("plain()")
        prime = found[: at + 1]
        assert prime[:-1] == before[:at]
        assert prime[-1] != before[at]
        command = ["--length", "20", "--temperature", "0", "--prime", prime]
        assert found == sampled(run, *command)


def test_nothing_in_a_text_is_taken_for_markup(page: Browser) -> None:
    hostile = "</script> <!-- \u2028 \u202e"
    choose(page, prime=hostile)
    press(page, "score")
    assert page.value("text.children.length") == page.value(f"[...{json.dumps(hostile)}].length")
    assert page.value("text.querySelectorAll('*:not(i)').length") == 0
    assert page.value("document.scripts.length") == 5
    assert "\u202e" not in page.value("text.textContent")


@pytest.mark.parametrize("width", [360, 900])
def test_it_fits_a_phone_and_can_be_used_with_a_keyboard(page: Browser, width: int) -> None:
    size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 500}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    choose(page, length=300, seed=1)
    press(page, "write")
    assert page.value("document.documentElement.scrollWidth") <= width
    page.value("text.focus()")
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert page.value("here") == 1
    assert page.value("document.activeElement.parentNode === tip")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert page.value("document.activeElement === text")
    assert page.value("getComputedStyle(tip).display") == "none"
    page.call("Emulation.clearDeviceMetricsOverride")


def test_a_model_of_records_begins_each_of_them_anew(chromium: Browser, tmp_path: Path) -> None:
    chance = random.Random(2)
    lines = ["".join(chance.choices(["ka", "ri", "to"], k=3)) for _ in range(300)]
    (tmp_path / "words.txt").write_text("".join(f"{line}\n" for line in lines))
    for command in (
        ["train", "words.txt", "--records", *SMALL, *"--epochs 3 --sample-every 0".split()],
        ["export", "--format", "html", "--precision", "float32", "-o", "page.html"],
    ):
        assert run_here(tmp_path, *command).returncode == 0
    chromium.open(tmp_path / "page.html")
    wait(chromium)
    choose(chromium, length=150, seed=2)
    press(chromium, "write")
    assert chromium.value("plain()") == sampled(tmp_path, *"--length 150 --seed 2".split())


def a_page(
    folder: Path, cell: str = "lstm", characters: str = "abcdefgh"
) -> tuple[artifact.Artifact, Path]:
    config = ModelConfig(units=19, layers=2, cell=cell)
    source = np.random.default_rng(1)
    vocabulary = Vocabulary(characters)
    sizes = shapes(config, len(vocabulary))
    weights = sizes.map(lambda shape: source.normal(0, 0.7, shape).astype("f4"))
    made = artifact.make(Checkpoint(1, config, vocabulary, weights), "float32")
    html.write(made, folder / "page.html")
    return made, folder / "page.html"


def test_each_line_has_its_own_direction(chromium: Browser, tmp_path: Path) -> None:
    _, path = a_page(tmp_path, characters="ab.\nאבגד")
    chromium.open(path)
    wait(chromium)
    choose(chromium, prime="ab.\nאבג.\nab.")
    press(chromium, "score")
    edges = chromium.columns("text.children")
    assert edges[:3] == sorted(edges[:3]) == edges[9:]
    assert edges[4:8] == sorted(edges[4:8], reverse=True)
    assert edges[7] > edges[2]


@pytest.fixture(params=["Node.js", "Chromium"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check pages in one of both."""
    if request.param == "Chromium":
        which = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "node" else which(name))
        if not chromium_path():
            pytest.skip("no browser is on PATH")
    elif not shutil.which("node"):
        pytest.skip("Node.js is not on PATH")


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_browser_without_webassembly_computes_the_same(cell: str, tmp_path: Path) -> None:
    made, path = a_page(tmp_path, cell)
    page = path.read_text("utf-8")
    without = re.sub(r'id="wasm">[^<]+<', 'id="wasm">AAAA<', page)
    assert without != page
    path.write_text(without, "utf-8")
    assert check.compare(html.load(path), made, characters=20).equal


@pytest.mark.usefixtures("runtime")
def test_a_wrong_step_is_noticed(tmp_path: Path) -> None:
    made, path = a_page(tmp_path)
    page = path.read_text("utf-8")
    for old, new in (("z(1)) * c[j]", "z(1)) * h[j]"), ("out[j] + bias", "out[j]")):
        assert page.count(old) == 1
        path.write_text(page.replace(old, new), "utf-8")
        assert not check.compare(html.load(path), made, characters=20).equal


@pytest.mark.usefixtures("runtime")
def test_an_error_of_the_page_is_reported(tmp_path: Path) -> None:
    made, path = a_page(tmp_path)
    page = path.read_text("utf-8")
    path.write_text(page.replace("read(id) {", "read(id) { missing();"), "utf-8")
    with pytest.raises(CharlstmError, match=r"^(Node.js|Chromium) cannot run the page: .*missing"):
        check.compare(html.load(path), made, characters=20)


def test_a_browser_that_does_not_start_is_one_line(
    charlstm: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chromium").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "chromium").chmod(0o755)
    found = {"bash": shutil.which("bash"), "chromium": str(tmp_path / "chromium")}
    monkeypatch.setattr(shutil, "which", found.get)
    done = charlstm("export", trained, "--format", "html", "-o", "page.html")
    assert done.returncode == 1
    problem = "charlstm: Chromium cannot run the page: the browser has ended"
    assert lines_of(done.stderr)[-1] == problem
    assert not (tmp_path / "page.html").exists()


def test_without_a_runtime_the_weights_are_checked_and_a_note_says_so(
    charlstm: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    done = charlstm("export", trained, "--format", "html", "-o", "page.html")
    assert done.returncode == 0
    *_, checked, note = lines_of(done.stderr)
    assert "checked on" in checked
    assert note == (
        "note:    page.html: neither Node.js nor Chromium is on PATH, so its weights were "
        "checked in numpy, not its JavaScript"
    )


def test_the_compiled_product_is_that_of_its_source() -> None:
    wasmtime = pytest.importorskip("wasmtime")
    source = (PAGES / "writer.wat").read_text()
    assert (PAGES / "writer.wasm").read_bytes() == bytes(wasmtime.wat2wasm(source))


def test_int8_is_the_default_and_makes_a_quarter(charlstm: Run, tmp_path: Path) -> None:
    config = ModelConfig(units=128, layers=2)
    weights = shapes(config, 9).map(lambda shape: np.ones(shape, np.float32))
    model = Checkpoint(1, config, Vocabulary("abcdefghi"), weights)
    write_checkpoint(tmp_path / "a.weights.h5", model)
    sizes = []
    for precision in ([], ["--precision", "int8"], ["--precision", "float32"]):
        done = charlstm(
            "export", "a.weights.h5", "--format", "html", "-o", "a.html", "--overwrite", *precision
        )
        assert done.returncode == 0, done.stderr
        sizes.append((tmp_path / "a.html").stat().st_size)
    assert sizes[0] == sizes[1] < 0.35 * sizes[2]
