"""The packages that a release consists of: built twice, byte for byte equal, and used away from this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_BOTH = ("weights/cxrseg.onnx", "weights/LICENSE", "recipes/cxrseg.yaml", "py.typed", "serve/page/index.html")
"""Files of the package that are not Python."""


def run(*arguments: str, cwd: Path, **variables: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(arguments, cwd=cwd, env=kept | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(out: Path) -> tuple[Path, Path]:
    """A source archive, and the wheel that is made of it."""
    tool = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out))
    run(*tool, cwd=ROOT, SOURCE_DATE_EPOCH="1750000000")
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


def test_two_builds_are_equal(built: tuple[Path, Path], tmp_path: Path) -> None:
    again = build(tmp_path)
    assert [path.name for path in again] == [path.name for path in built]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_both_hold_what_is_not_python(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive, zipfile.ZipFile(wheel) as packed:
        sources = {name.partition("/")[2] for name in archive.getnames()}
        files = set(packed.namelist())
    assert [name for name in IN_BOTH if f"src/cxrseg/{name}" not in sources] == []
    assert [name for name in IN_BOTH if f"cxrseg/{name}" not in files] == []
    assert {"LICENSE", "SECURITY.md", "tests/conftest.py", "requirements/ci.txt"} <= sources
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"cxrseg"}  # no tests, no docs
    assert not [name for name in sources | files if "__pycache__" in name or name.endswith((".pyc", ".ckpt"))]


def test_the_wheel_predicts_with_its_own_weights(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Installed without the repository; only the packages that it needs come from this environment."""
    target = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--target", str(target), str(built[1]), cwd=tmp_path)
    code = (
        "import sys, cxrseg, numpy as np\n"
        "from cxrseg.model_file import has_checksum, shipped_model\n"
        "rows = np.linspace(0, 1, 128, dtype=np.float32)\n"
        "found = cxrseg.segment(np.outer(rows, rows[::-1]), input_check=False)\n"
        "print(cxrseg.__file__, shipped_model(), has_checksum(shipped_model()), found.mask('lungs').shape, sep='\\n')\n"
        "print('torch' in sys.modules)"
    )
    printed = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target), CXRSEG_CACHE=str(tmp_path / "c"))
    module, weights, *rest = printed.splitlines()
    assert Path(module).is_relative_to(target) and Path(weights).is_relative_to(target)
    assert rest == ["True", "(128, 128)", "False"]
    command = (sys.executable, "-m", "cxrseg", "--version")
    assert run(*command, cwd=tmp_path, PYTHONPATH=str(target)).startswith("cxrseg")
