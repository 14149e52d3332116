from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import shell_complete
from click.testing import CliRunner, Result

from cxrseg import __version__
from cxrseg.cli import main
from cxrseg.data.layout import open_dataset
from cxrseg.io.masks import read_mask
from cxrseg.phantom.generate import write_phantoms
from cxrseg.training.fit import Run
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

ROOT = Path(__file__).resolve().parents[2]
NOTICE = "Research use only. Not for diagnosis."


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


COMMANDS = dict(commands())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="cxrseg")


def works(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def parse(line: str) -> None:
    """Parse a command line down to its last option, without running it."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    assert Path(words[0]).name == "cxrseg"
    command: click.Command = main
    context = main.make_context("cxrseg", words[1:])
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        try:
            context = found.make_context(name, rest, parent=context)
        except click.BadParameter as error:
            if "does not exist" in error.message:  # the example's own files
                return
            raise


def documented() -> list[str]:
    """Every call of cxrseg in a block of shell commands of README and docs."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```(?:bash|sh|shell)\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
            joined = block.replace("\\\n", " ")
            for line in re.split(r"\n|&&", joined):
                if re.match(r"\s*(\S*/)?cxrseg\s", line):
                    found.append(line.strip().removesuffix("&").strip())
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_an_example(path: tuple[str, ...], flag: str) -> None:
    text = works(*path, flag)
    assert text.startswith(f"Usage: {' '.join(['cxrseg', *path])}")
    assert "Example:" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_in_help_can_be_called(path: tuple[str, ...]) -> None:
    lines = works(*path, "--help").partition("Example:\n")[2].strip().splitlines()
    assert lines
    for line in lines:
        inner = re.fullmatch(r'eval "\$\((.*)\)"', line.strip())
        parse(inner[1] if inner else line.strip())


@pytest.mark.parametrize(
    "path", [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)], ids=" ".join
)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    options = [parameter for parameter in COMMANDS[path].params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help and not option.show_default] == []


def test_readme_and_guides_call_what_there_is() -> None:
    lines = documented()
    assert len(lines) >= 5
    assert {"demo", "train", "evaluate"} <= {word for line in lines for word in shlex.split(line, comments=True)}
    for line in lines:
        try:
            parse(line)
        except click.ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_the_version() -> None:
    assert works("--version").split() == ["cxrseg,", "version", __version__]


def test_python_m_cxrseg() -> None:
    done = subprocess.run([sys.executable, "-m", "cxrseg", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    text = works("completion", shell)
    assert "_CXRSEG_COMPLETE" in text
    assert "cxrseg" in text
    if found := shutil.which(shell):
        done = subprocess.run([found, "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cxrseg ev", {"evaluate"}),
        ("cxrseg data p", {"preview", "phantom"}),
        ("cxrseg evaluate --spl", {"--split"}),
        ("cxrseg evaluate m.onnx --split t", {"train", "test"}),
        ("cxrseg completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, expected: set[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert shell_complete(main, {}, "cxrseg", "_CXRSEG_COMPLETE", "bash_complete") == 0
    assert {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()} == expected


def test_help_cuts_no_sentence() -> None:
    assert "..." not in works("--help").partition("Commands:")[2] + works("data", "--help").partition("Commands:")[2]
    for code in ("0    done", "1    done, but", "2    wrong usage", "3    the command failed", "130  stopped"):
        assert code in works("--help")


def test_the_cache_is_shown_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path))
    (tmp_path / "a.blob").write_bytes(bytes(1_500_000))
    (tmp_path / "mine.txt").write_text("not ours")
    assert works("cache", "show") == f"{tmp_path}: 1.5 MB in 1 files\n"
    assert works("cache", "clear") == f"{tmp_path}: removed 1.5 MB\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# What goes wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        ["train"],
        ["train", "quick"],
        ["train", "quick", "--dataset", "d", "--nonesuch"],
        ["train", "quick", "--dataset", "d", "--processes", "0"],
        ["train", "quick", "--dataset", "d", "--processes", "two"],
        ["evaluate", "m.onnx", "--dataset", "d", "--threshold", "1.5"],
        ["evaluate", "m.onnx", "--dataset", "d", "--split", "valid"],
        ["evaluate", "--predictions", "p", "--dataset", "d", "--stress"],
        ["completion", "powershell"],
        ["data", "phantom"],
        ["data", "phantom", "p", "--size", "10"],
        ["data", "preview", "d", "--count", "0"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_shows_the_usage_and_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: cxrseg" in result.output
    assert "Error: " in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "baseline-unett", "--dataset", "nowhere"], "did you mean 'baseline-unet'?"),
        (["train", "quick", "--dataset", "nowhere"], "expected images and masks at nowhere"),
        (["train", "quick", "--dataset", "nowhere", "-s", "optimiser.epoch=3"], "did you mean 'epochs'?"),
        (["train", "quick", "--dataset", "empty"], "empty is an empty folder"),
        (["evaluate", "none.onnx", "--dataset", "nowhere"], "nowhere"),
        (["info", "none.onnx"], "expected a model file (.onnx) at none.onnx"),
        (["info", "text.onnx"], "text.onnx cannot be used as a model file: it is not an ONNX graph"),
        (["recipes", "quik"], "did you mean 'quick'?"),
        (["data", "preview", "empty"], "empty is an empty folder"),
    ],
    ids=str,
)
def test_an_error_is_one_clear_message_and_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.onnx").write_text("hello")
    result = run(*arguments)
    assert result.exit_code == 3
    assert result.output.startswith("Error: ")
    assert result.output.count("Error: ") == 1
    assert expected in result.output
    assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("empty", "text.onnx")] == []


def test_a_package_that_is_missing_is_named() -> None:
    code = "import sys; sys.modules['torch'] = None; from cxrseg.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "quick", "--dataset", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.strip() == "Error: this command needs the package 'torch': pip install 'cxrseg[train]'"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, tiny_run: Run, phantoms: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run("evaluate", tiny_run.folder.model, "--dataset", phantoms, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 3
    assert result.output.startswith("Error: ")
    assert str(tmp_path / "file") in result.output


# Every main command on tiny data


@pytest.fixture
def whole_recipe(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> Path:
    """A recipe whose runs end with a model file and figures."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_recipe().to_yaml(), encoding="utf-8")
    return path


@pytest.fixture
def recipe_file(whole_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for runs that end after their last epoch."""
    monkeypatch.setattr("cxrseg.training.fit._finish", lambda *_: None)
    return whole_recipe


def test_data_phantom_and_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Mapping[str, Any] = {"train": {"COVID-19": 2, "Normal": 1}, "val": {"COVID-19": 1}}
    monkeypatch.setattr("cxrseg.phantom.generate.DEFAULT_COUNTS", counts)
    assert works("data", "phantom", tmp_path / "p", "--size", "64", "--seed", "3").strip() == str(tmp_path / "p")
    assert len(list((tmp_path / "p").rglob("images/*.png"))) == 4
    text = works("data", "preview", tmp_path / "p", "--count", "2", "--split", "train", "-o", tmp_path / "look")
    assert "train COVID-19 2, train Normal 1, val COVID-19 1" in text
    for suffix in (".png", ".svg"):
        assert str((tmp_path / "look").with_suffix(suffix)) in text
        assert (tmp_path / "look").with_suffix(suffix).stat().st_size > 1000


def test_train(tmp_path: Path, recipe_file: Path, phantoms: Path) -> None:
    text = works(
        "train", recipe_file, "--dataset", phantoms, "-o", tmp_path / "run", "-d", "cpu", "-s", "optimiser.epochs=1"
    )
    assert text.count("epoch   1") == 1
    assert re.search(r"train loss \d\.\d{4}  val loss \d\.\d{4}  RMSE 0\.\d{4}  Dice \d\.\d{4}  IoU", text)
    assert f"model file  {tmp_path / 'run' / 'model.onnx'}" in text
    assert NOTICE in text
    again = run("train", recipe_file, "--dataset", phantoms, "-o", tmp_path / "run", "-s", "optimiser.epochs=1")
    assert again.exit_code == 3
    assert "continue it with --resume" in again.output
    quiet = works(
        "train",
        recipe_file,
        "--dataset",
        phantoms,
        "-o",
        tmp_path / "quiet",
        "-d",
        "cpu",
        "-s",
        "optimiser.epochs=1",
        "-q",
    )
    assert "train loss" not in quiet
    assert "done. Best epoch 1" in quiet


def test_train_says_what_it_will_do_and_the_run_remembers_what_it_held_out(
    tmp_path: Path, whole_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantoms(tmp_path / "p", {"train": {"COVID-19": 10}}, size=64)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "tiny.yaml", "--dataset", "p", "-d", "cpu", "-s", "optimiser.epochs=1"]
    text = works(*arguments, "--val-fraction", "0.3")
    assert "images   7 for training, 3 for validation" in text
    assert "held out" not in text  # as asked: nothing to say
    manifest = json.loads((tmp_path / "runs" / "tiny" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["dataset"]["images"] == "train COVID-19 7, val COVID-19 3"
    # The dataset has no split 'val'; the run knows which images it did not learn from.
    assert "3 images" in works("evaluate", "runs/tiny", "--dataset", "p", "-o", "e")
    with (tmp_path / "e" / "scores.csv").open(encoding="utf-8", newline="") as file:
        evaluated = {row["name"] for row in csv.DictReader(file)}
    with (tmp_path / "runs" / "tiny" / "split.csv").open(encoding="utf-8", newline="") as file:
        assert evaluated == {row["name"] for row in csv.DictReader(file) if row["split"] == "val"}
    assert "no images of split val" in run("evaluate", "--dataset", "p", "-o", "other").output


def test_without_a_split_a_fifth_is_held_out(
    tmp_path: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantoms(tmp_path / "p", {"train": {"COVID-19": 5}}, size=64)
    for mask in (tmp_path / "p").rglob("lung masks/*"):
        mask.unlink()
    folder = next((tmp_path / "p").rglob("images")).parent
    (folder / "lung masks").rmdir()
    (tmp_path / "own").mkdir()
    for name in ("images", "infection masks"):
        (folder / name).rename(tmp_path / "own" / name)
    monkeypatch.chdir(tmp_path)
    text = works("train", "tiny.yaml", "--dataset", "own", "-d", "cpu", "-s", "optimiser.epochs=1", "-o", "r")
    assert "there is no split 'val': 20% of the training images are held out" in text
    assert "no image has a mask of lungs" in text
    assert "done. Best epoch 1" in text


def test_folds_evaluate_each_image_by_a_model_that_did_not_see_it(
    tmp_path: Path, whole_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantoms(tmp_path / "p", {"train": {"COVID-19": 5}, "val": {"COVID-19": 2}}, size=64)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "tiny.yaml", "--dataset", "p", "-d", "cpu", "-s", "optimiser.epochs=1", "-o", "cv"]
    arguments += ["--folds", "2"]
    assert "leave out --val-fraction" in run(*arguments, "--val-fraction", "0.2").output
    text = works(*arguments)
    assert "in the first of 2 folds" in text and "fold 2 of 2: " in text
    assert "infection at 0.5: 7 images" in text
    assert "cxrseg predict -m cv/fold-1 -m cv/fold-2" in text
    seen: list[set[str]] = []
    for fold in ("fold-1", "fold-2"):
        with (tmp_path / "cv" / fold / "split.csv").open(encoding="utf-8", newline="") as file:
            seen.append({row["name"] for row in csv.DictReader(file) if row["split"] == "val"})
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 7
    # The dataset calls some of them 'val' and others 'train'; the fold knows better.
    works("evaluate", "cv/fold-1", "--dataset", "p", "-o", "e")
    with (tmp_path / "e" / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} == seen[0]
    # Folds that are complete are not trained once more.
    models = [(tmp_path / "cv" / fold / "model.onnx").stat().st_mtime_ns for fold in ("fold-1", "fold-2")]
    assert "epoch   1" not in works(*arguments, "--resume")
    assert models == [(tmp_path / "cv" / fold / "model.onnx").stat().st_mtime_ns for fold in ("fold-1", "fold-2")]
    works("compare", "cv/evaluation", "cv/evaluation")


def test_finetune_begins_with_the_shipped_weights_and_still_finds_lungs(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "p", {"train": {"COVID-19": 3}}, size=128)
    folder = next((tmp_path / "p").rglob("images")).parent
    (tmp_path / "own").mkdir()
    for name in ("images", "infection masks"):
        (folder / name).rename(tmp_path / "own" / name)
    settings = ["-s", "optimiser.epochs=1", "-s", "optimiser.learning_rate=1e-9", "-d", "cpu", "-q"]
    works("train", "finetune", "--dataset", tmp_path / "own", "-o", tmp_path / "run", *settings)
    image = next((tmp_path / "own" / "images").glob("*.png"))
    for name, options in (("shipped", []), ("tuned", ["-m", tmp_path / "run"])):
        works("predict", image, "-o", tmp_path / name, "--force", "--save-probabilities", "-ta", "infection", *options)
    lungs = [read_mask(tmp_path / name / f"{image.stem}_lungs.png") for name in ("shipped", "tuned")]
    both, either = (lungs[0] & lungs[1]).sum(), (lungs[0] | lungs[1]).sum()
    assert lungs[0].any() and both > 0.9 * either


def test_evaluate(tmp_path: Path, tiny_run: Run, phantoms: Path) -> None:
    text = works("evaluate", tiny_run.folder.model, "--dataset", phantoms, "--split", "test", "-o", tmp_path / "out")
    assert "infection at 0.5: 6 images, 3 with a mask" in text
    assert NOTICE in text
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    works(
        "evaluate",
        tiny_run.folder.model,
        "--dataset",
        phantoms,
        "--category",
        "COVID-19",
        "--threshold",
        "0.3",
        "-o",
        tmp_path / "covid",
    )
    summary = json.loads((tmp_path / "covid" / "summary.json").read_text(encoding="utf-8"))
    assert summary["dataset"]["images"] == "val COVID-19 4"
    assert summary["thresholds"]["infection"] == 0.3


def test_evaluate_under_stress(tmp_path: Path, tiny_run: Run, phantoms: Path) -> None:
    given = ("evaluate", tiny_run.folder.model, "--dataset", phantoms, "-o", tmp_path / "out")
    text = works(*given, "--stress", "--stress-images", "1")
    assert "border-black" in text and "stress.json" in text
    told = json.loads((tmp_path / "out" / "stress.json").read_text(encoding="utf-8"))
    assert told["films"] == {"COVID-19": 1, "Non-COVID": 1, "Normal": 1}
    works(*given)  # what no longer belongs to the figures beside it is removed
    assert not (tmp_path / "out" / "stress.json").exists()


def test_evaluate_and_train_leave_out_what_is_excluded(tmp_path: Path, tiny_run: Run, phantoms: Path) -> None:
    names = [sample.name for sample in open_dataset(phantoms).samples if sample.category == "COVID-19"]
    left_out = [next(name for name in names if name.startswith(split)) for split in ("Train", "Val")]
    (tmp_path / "names.txt").write_text("\n".join(left_out), encoding="utf-8")
    given = ("--dataset", phantoms, "--exclude", tmp_path / "names.txt")
    works("evaluate", tiny_run.folder.model, *given, "--category", "COVID-19", "-o", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["dataset"]["images"] == "val COVID-19 3"
    works("train", tiny_run.folder.recipe, *given, "-s", "optimiser.epochs=1", "-o", tmp_path / "run", "-q")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["dataset"]["images"].startswith("train COVID-19 7,")
    assert "val COVID-19 3" in manifest["dataset"]["images"]


def test_info(tiny_run: Run) -> None:
    found = json.loads(works("info", tiny_run.folder.model))
    assert (found["format"], found["name"], found["channels"]) == (1, "tiny", ["infection", "lungs"])
    assert found["recipe"]["optimiser"]["epochs"] == 2


def test_recipes(tmp_path: Path) -> None:
    text = works("recipes")
    assert [line.split()[0] for line in text.splitlines()] == [
        "baseline-unet",
        "baseline-unet-small",
        "cxrseg",
        "cxrseg-128",
        "cxrseg-256",
        "finetune",
        "quick",
    ]
    (tmp_path / "mine.yaml").write_text(works("recipes", "quick"), encoding="utf-8")
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe("quick")


def test_demo(tmp_path: Path, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "train": {"COVID-19": 8, "Normal": 2},
        "val": {"COVID-19": 2, "Normal": 1},
        "test": {"COVID-19": 2, "Normal": 2},
    }
    monkeypatch.setattr("cxrseg.phantom.generate.DEFAULT_COUNTS", counts)
    monkeypatch.setattr("cxrseg.demo.PHANTOM_SIZE", 64)
    monkeypatch.setattr("cxrseg.demo.load_recipe", lambda _: tiny_recipe(optimiser={"epochs": 1}))
    text = works("demo", "-o", tmp_path / "demo")
    for line in ("infection Dice, 2 infected images", "lungs Dice", "threshold baseline Dice", NOTICE):
        assert line in text
    for path in re.findall(r"^(?:figures|model file|scores) +(\S+)$", text, re.M):
        assert Path(path).exists()
    assert len(re.findall(r" [01]\.\d{3}$", text, re.M)) == 5
    assert works("demo", "-o", tmp_path / "demo").splitlines()[-12:] == text.splitlines()[-12:]  # taken up again
