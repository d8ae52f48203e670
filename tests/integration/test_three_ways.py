"""The three ways of the seed document, as written there, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import chord_exp.tiny

PACKAGE = Path(__file__).parents[2] / "package"
MODEL = Path(chord_exp.tiny.__file__).parent / "model"
SCRIPTS = Path(sys.executable).parent
TIMEOUT = 900
FEW = ["total_steps=3", "data.eval_rows=8", "batch_size=2", "repeat_times=4"]
# what the CPU packages lack and verl's GPU trainer imports before it looks for GPUs
STUBS = {
    "sitecustomize.py": "from chord_exp.engine.vllm_stub import install\ninstall()\n",
    "fastapi.py": "class FastAPI: ...\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the package, as a user has it."""
    made_by_use = shutil.ignore_patterns("prepared", "checkpoints", "outputs", "my_*", "__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "package", ignore=made_by_use))


def environment(**more: str) -> dict[str, str]:
    """This environment's commands first, no GPU, and no Ray of someone else."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    own |= {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "CHORD_PYTHON": sys.executable}
    # a loopback address stays one, as in private_ray.environment
    return own | {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} | more


def bash(command: str, place: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end; whatever it started ends with it when it takes too long."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=place,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=900)
        raise
    return subprocess.CompletedProcess(command, process.returncode, output)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="chord-ways-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray_head(short: Path) -> Iterator[str]:
    """`ray start --head` on ports of its own; the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for name, text in STUBS.items():
        (short / name).write_text(text)
    command = f"exec ray start --head --block --node-ip-address=127.0.0.1 --port={address.partition(':')[2]} "
    command += f"--include-dashboard=false --num-cpus=8 --temp-dir={short}/ray"
    process = subprocess.Popen(
        ["bash", "-c", command],
        env=environment(PYTHONPATH=str(short)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while bash("ray status", short, RAY_ADDRESS=address).returncode:
            assert process.poll() is None and time.monotonic() < deadline
        yield address
    finally:
        process.terminate()
        process.wait()


def run_folder(place: Path) -> Path:
    """The folder of the only run below a place."""
    (record,) = place.glob("outputs/*/*/run.json")
    return record.parent


def test_way_1_one_click(tmp_path):
    command = f"bash {PACKAGE}/run_chord_training.sh --input-dir sft_data --expert-ratio 0.3 --config-type simple"
    done = bash(f"{command} --local --name clicked -- {' '.join(FEW)}", tmp_path)
    assert done.returncode == 0, done.stdout
    told = json.loads((run_folder(tmp_path) / "run.json").read_text())
    assert told["status"] == "succeeded" and told["completed_steps"] == 3
    assert "mu_schedule=seed_simple" in told["overrides"]


@pytest.mark.slow
def test_way_1_hands_a_batch_systems_term_on_and_the_run_saves(tmp_path):
    command = [
        "bash",
        str(PACKAGE / "run_chord_training.sh"),
        "--local",
        "--out",
        "run",
        "--",
        "total_steps=2000",
        *FEW[1:],
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        rows, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + TIMEOUT
        while not (rows.exists() and '"actor/mu"' in rows.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        # to the script alone, as `scancel --batch` does
        process.terminate()
        assert process.wait(timeout=TIMEOUT) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["status"] == "stopped" and told["completed_steps"] >= 1
    assert list((tmp_path / "run").glob("checkpoints/*/*/global_step_*"))


@pytest.mark.slow
def test_way_1_starts_ray_where_none_runs_stops_it_and_returns_the_code_of_the_run(tmp_path, short):
    # the packages of a CPU lack vLLM: a run for GPUs is refused, and the script says so by its exit code
    command = f"bash {PACKAGE}/run_chord_training.sh --config-type simple --gpus 2 --model {MODEL} -- total_steps=1"
    lengths = "model.max_prompt_tokens=128 model.max_response_tokens=16 'data.system_prompt=\"\"'"
    # where nothing answers: Ray finds any other Ray of this machine, the private one of a run as well
    alone = {"RAY_ADDRESS": "127.0.0.1:9", "RAY_TMPDIR": str(short), "TMPDIR": str(short)}
    done = bash(f"{command} {lengths}", tmp_path, **alone)
    assert done.returncode == 2, done.stdout
    assert "没有正在运行的 Ray" in done.stdout and "停止本脚本启动的 Ray" in done.stdout
    assert "run `make setup-gpu`" in done.stdout
    left = [process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if str(short) in " ".join(words)], "Ray goes on"


@pytest.mark.slow
def test_way_2_by_hand_gets_as_far_as_the_missing_gpus_and_way_1_leaves_a_running_ray_alone(place, short, ray_head):
    done = bash("python prepare_chord_data.py --input_dir sft_data --expert_ratio 0.25", place)
    assert done.returncode == 0 and (place / "prepared" / "rl" / "train.jsonl").exists(), done.stdout
    more = {"RAY_ADDRESS": ray_head, "PYTHONPATH": str(short)}
    done = bash("trinity run --config qwen3_chord_simple.yaml", place, TRINITY_MODEL_PATH=str(MODEL), **more)
    # Trinity itself ends with 0 here: its exit code says nothing
    assert "Total available GPUs 0 is less than total desired GPUs 2" in done.stdout, done.stdout[-4000:]
    assert (place / "checkpoints" / "chord" / "qwen3_chord_simple").is_dir()

    command = "bash run_chord_training.sh --config-type simple --gpus 4 -- action=plan"
    done = bash(command, place, **more)
    assert done.returncode == 0 and "使用正在运行的 Ray" in done.stdout, done.stdout
    assert bash("ray status", place, **more).returncode == 0


def test_way_3_a_copy_is_edited_refused_when_wrong_and_runs_when_right(place):
    assert bash("python prepare_chord_data.py", place).returncode == 0
    wrong = "cp qwen3_chord_config.yaml my_config.yaml && sed -i 's/repeat_times: 8/repeat_times: 16/' my_config.yaml"
    done = bash(f"{wrong} && python -m chord_exp.check --verl new my_config.yaml", place)
    assert done.returncode == 2 and "batch_size x repeat_times = 384" in done.stdout, done.stdout
    right = "cp qwen3_chord_config.yaml my_config.yaml && sed -i 's/mu_peak: 0.6/mu_peak: 0.4/' my_config.yaml"
    done = bash(f"{right} && python -m chord_exp.check --verl new my_config.yaml", place)
    assert done.returncode == 0 and "no mismatch" in done.stdout, done.stdout
