"""The command as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.inference.options import Options
from made_models import chest, hand_model
from made_service import png, serving

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "service.md"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_ends_tidily(tmp_path: Path, number: signal.Signals) -> None:
    model = hand_model(tmp_path / "hand.onnx")
    command = [sys.executable, "-m", "cxrseg", "serve", "--port", "0", "--no-browser", "-m", str(model)]
    environment = {**os.environ, "CXRSEG_TOKEN": "a-token", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = re.fullmatch(r"Serving at (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
        assert address is not None
        assert "Research use only" in process.stdout.readline()
        files = {"file": ("film.png", png(chest((90, 80))[0]))}
        sent = {"url": address[1] + "v1/segment", "files": files, "timeout": 60}
        assert httpx.post(**sent).status_code == 401
        answer = httpx.post(**sent, headers={"Authorization": "Bearer a-token"})
        assert answer.json()["status"] == "ok"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["hand.onnx"]


def test_a_port_in_use_is_named_with_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["serve", "--no-browser", "--port", str(port)])
    assert done.exit_code == 3
    assert f"127.0.0.1:{port} cannot be listened on" in done.output
    assert "--port" in done.output


def test_other_machines_need_a_token() -> None:
    done = CliRunner().invoke(main, ["serve", "--no-browser", "--host", "0.0.0.0"], env={"CXRSEG_TOKEN": None})
    assert (done.exit_code, "--token" in done.output) == (3, True)


def test_the_requests_of_the_guide(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("this system has no curl")
    for name, values in zip(("chest", "infection", "lungs"), chest((200, 160)), strict=True):
        (tmp_path / f"{name}.png").write_bytes(png(values))
    calls = re.findall(r"^curl (.*)$", GUIDE.read_text(encoding="utf-8"), re.M)
    options = Options((hand_model(tmp_path / "hand.onnx"),))
    answers = []
    with serving(options=options, keep=tmp_path / "corrections") as (client, _):
        for call in calls:
            words = shlex.split(call.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/")))
            command = [curl, "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *words]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{call}\n{done.stdout}\n{done.stderr}"
            answers.append(json.loads(done.stdout))
    assert len(answers) == 2 and answers[0]["status"] == "ok"
    assert len(list((tmp_path / "corrections").rglob("*.png"))) == 3
