"""Compare the preset keras-2016 with the program it reproduces.

``python -m bench.presets TEXT [FOLDER]``: that program is keras_2016.py, run with the release of
its day, Keras 1.0.3 on Theano: its training loss at each step on Tiny Shakespeare is in
keras_2016.json, for five seeds. How long the loss stays near 3.3 at first is chance, so curves are
compared from the step on at which they leave that plateau. Two more runs of that program stayed on
it for 860 and for over 1,000 steps, and were not continued. The runs of the preset are kept in
checkpoints/presets. FOLDER is what keras_2016.py wrote: trainings that the preset continues.
"""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.computer import computer
from bench.continued import continued
from charlstm.run.folder import RunFolder

RELEASE = Path(__file__).with_name("keras_2016.json")
RUNS = Path("checkpoints/presets")
SEEDS = (1, 2, 3, 4, 5)
STEPS = 1100
PLATEAU = 3.2  # nats; the loss of the next lower level is 2.7
MEAN, FEW = 40, 20  # steps of the moving means: of the losses, and for the end of the plateau
Curves = list[
    tuple[int, list[float]]
]  # where each leaves the plateau, and its losses from there on
COMPARED = 500  # steps after the plateau
CONTINUED = 600  # steps from the same state


def main() -> None:
    """Print the losses of both programs after the plateau, as Markdown."""
    print("# The preset keras-2016 beside the release of 2016\n")
    print(f"`make presets TEXT=input.txt FOLDER=release`. {computer('tensorflow', 'keras')}.\n")
    release = json.loads(RELEASE.read_text())
    ours = [losses(Path(sys.argv[1]), seed) for seed in SEEDS]
    print(f"Training loss in nats, means of {MEAN} steps, from the step on at which the mean of")
    print(f"{FEW} steps is below {PLATEAU}. Two more trainings of the release were still on the")
    print(
        "plateau after 860 and 1,000 steps, and were not continued. The mean has the runs that are"
    )
    print("shown to the end.\n")
    curves = {"Keras 1.0.3": list(map(shifted, release)), "keras-2016": list(map(shifted, ours))}
    shown = range(0, COMPARED + 1, 100)
    print("| program | seed | left the plateau at step |" + "".join(f" + {s} |" for s in shown))
    print("| - | - | - |" + " - |" * len(shown))
    for name, of_seeds in curves.items():
        for seed, (left, curve) in zip(SEEDS, of_seeds, strict=True):
            cells = "".join(f" {curve[step]:.3f} |" for step in shown if step < len(curve))
            print(f"| {name} | {seed} | {left} |{cells}")
    # A run with a long plateau has too few steps left.
    curves = {
        name: [(left, curve) for left, curve in of_seeds if len(curve) > COMPARED]
        for name, of_seeds in curves.items()
    }
    means = {name: mean([c for _, c in of_seeds]) for name, of_seeds in curves.items()}
    for name, curve in means.items():
        cells = "".join(f" {curve[step]:.3f} |" for step in shown)
        print(f"| {name} | mean of {len(curves[name])} | |{cells}")
    one, two = means.values()
    apart = [abs(a - b) for a, b in zip(one, two, strict=True)]
    most = apart.index(max(apart))
    print(
        f"\nThe means are at most {max(apart):.3f} apart, {statistics.mean(apart):.3f} on average. "
        f"Where\nthey are furthest apart, at + {most}, the standard error of the difference is "
        f"{standard_error(curves.values(), most):.3f}."
    )
    if sys.argv[2:]:
        print_continued(Path(sys.argv[1]), Path(sys.argv[2]))


def print_continued(text: Path, folder: Path) -> None:
    """Print how far apart both programs are that start from the same state."""
    print("\n## From the same state\n")
    print("The preset continues trainings of that release from the state in which they left the")
    print(f"plateau: the same weights, accumulators and batches, other dropout masks. {CONTINUED}")
    print(f"steps; differences between means of {MEAN}.\n")
    shown = range(0, CONTINUED - MEAN + 1, 140)
    print("| seed | largest | mean |" + "".join(f" + {s + MEAN} |" for s in shown))
    print("| - | - | - |" + " - |" * len(shown))
    curves: list[list[list[float]]] = []
    for path in sorted(folder.glob("*.npz")):
        both = continued(text, folder, int(path.stem), CONTINUED)
        curves.append([moving_means(losses) for losses in both])
        print(difference(path.stem, curves[-1], shown))
    print(difference("mean of all", list(map(mean, zip(*curves, strict=True))), shown))


def difference(name: str, both: list[list[float]], shown: range) -> str:
    """Return a row of the table: by how much the losses of the preset are higher."""
    higher = [ours - theirs for theirs, ours in zip(*both, strict=True)]
    sizes = list(map(abs, higher))
    cells = "".join(f" {higher[step]:+.3f} |" for step in shown)
    return f"| {name} | {max(sizes):.3f} | {statistics.mean(sizes):.3f} |{cells}"


def moving_means(losses: Sequence[float]) -> list[float]:
    """Return the mean of the MEAN losses up to each step that has so many."""
    return [statistics.mean(losses[end - MEAN : end]) for end in range(MEAN, len(losses) + 1)]


def standard_error(curves: Iterable[Curves], step: int) -> float:
    """Return the standard error of the difference of two means, at a step after the plateau."""
    parts = [[curve[step] for _, curve in of_seeds] for of_seeds in curves]
    return math.sqrt(sum(statistics.variance(part) / len(part) for part in parts))


def losses(text: Path, seed: int) -> list[float]:
    """Train with the preset, unless that is done; return the loss of each step."""
    run = RunFolder(RUNS / str(seed))
    options = f"--config keras-2016 --seed {seed} --max-steps {STEPS} --log-every 1 --resume"
    command = [sys.executable, "-m", "charlstm", "train", str(text), "--run", str(run.path)]
    command += [*options.split(), "--sample-every", "0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [line["loss"] for line in run.history()[0] if line["kind"] == "step"]


def shifted(curve: Sequence[float]) -> tuple[int, list[float]]:
    """Return the step at which a curve leaves the plateau, and its moving mean from there on."""
    steps = range(MEAN, len(curve) + 1)
    left = next(step for step in steps if statistics.mean(curve[step - FEW : step]) < PLATEAU)
    return left, moving_means(curve)[left - MEAN :][: COMPARED + 1]


def mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of curves at each step that all of them have."""
    return [statistics.mean(values) for values in zip(*curves, strict=False)]


if __name__ == "__main__":
    main()
