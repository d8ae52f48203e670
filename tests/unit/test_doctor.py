"""What the doctor says of machines: what is installed, drivers, limits, proxies, a Ray to join."""

from __future__ import annotations

import importlib.util
import resource
from importlib import metadata

import pytest

from chord_exp.doctor import machine as doctor

INSTALLED = {"torch": "2.11.0+cu130", "vllm": "0.23.0"}


@pytest.fixture
def constraints(tmp_path, monkeypatch):
    """A folder of lock files, and an installation with vLLM in it."""

    def version(name: str) -> str:
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in INSTALLED or None)
    (tmp_path / "cpu.txt").write_text("torch==2.13.0\n")
    (tmp_path / "gpu.txt").write_text("torch==2.11.0\nvllm==0.23.0\nwin==1 ; sys_platform == 'win32'\n")
    return tmp_path


def test_with_vllm_the_lock_is_that_for_gpus_and_any_build_of_torch_fits(constraints):
    finding = doctor.locked_versions(constraints)
    assert finding.state == doctor.OK and "gpu.txt" in finding.detail


def test_a_gpu_installation_off_its_lock_is_bad_with_the_remedy(constraints, monkeypatch):
    monkeypatch.setitem(INSTALLED, "torch", "2.13.0")
    finding = doctor.locked_versions(constraints)
    assert finding.state == doctor.BAD
    assert "torch 2.13.0 (locked 2.11.0)" in finding.detail and "make setup-gpu" in finding.detail


def test_without_vllm_the_lock_is_that_for_cpu(constraints, monkeypatch):
    monkeypatch.delitem(INSTALLED, "vllm")
    finding = doctor.locked_versions(constraints)
    assert finding.state == doctor.BAD and "cpu.txt" in finding.detail
    assert finding.detail.endswith("make setup")


def test_without_lock_files_there_is_nothing_to_compare_with(constraints):
    assert doctor.locked_versions(constraints / "nowhere").state == doctor.NOTE


@pytest.mark.parametrize(
    ("netrc", "state"),
    [
        ("machine api.wandb.ai\n  login user\n  password abc\n", doctor.OK),
        ("# machine api.wandb.ai is gone\nmachine other.host\n  login wandb\n  password abc\n", doctor.NOTE),
    ],
)
def test_a_key_for_wandb_is_looked_for_as_a_run_does(tmp_path, monkeypatch, netrc, state):
    (tmp_path / "netrc").write_text(netrc)
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert doctor.wandb().state == state


SMI = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {driver}              Driver Version: {driver}      CUDA Version: {cuda}     |
|-----------------------------------------+------------------------+----------------------+
"""


@pytest.mark.parametrize(
    ("driver", "cuda", "built_for", "state"),
    [
        ("580.95.05", "13.0", "13.0", doctor.OK),
        ("580.95.05", "13.0", "12.8", doctor.OK),
        # CUDA's minor versions go together
        ("525.60.13", "12.0", "12.8", doctor.OK),
        ("550.54.14", "12.4", "13.0", doctor.BAD),
        ("580.95.05", "13.0", None, doctor.NOTE),
    ],
)
def test_a_driver_older_than_torch_s_cuda_is_bad(driver, cuda, built_for, state):
    finding = doctor.judge_driver(SMI.format(driver=driver, cuda=cuda), built_for)
    assert finding.state == state and driver in finding.detail


def test_a_driver_that_does_not_answer_is_bad_in_its_own_words():
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    finding = doctor.judge_driver(said, "13.0")
    assert finding.state == doctor.BAD and "couldn't communicate" in finding.detail


def test_the_driver_is_asked_where_there_is_one(tmp_path, monkeypatch):
    fake_smi = tmp_path / "nvidia-smi"
    fake_smi.write_text(f"#!/bin/sh\ncat <<'E'\n{SMI.format(driver='550.54.14', cuda='12.4')}E\n")
    fake_smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "550.54.14" in doctor.driver().detail
    fake_smi.unlink()
    assert doctor.driver().state == doctor.NOTE


@pytest.mark.parametrize(
    ("hard", "state"), [(1024, doctor.BAD), (65536, doctor.OK), (resource.RLIM_INFINITY, doctor.OK)]
)
def test_too_few_open_files_are_bad(monkeypatch, hard, state):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, hard))
    finding = doctor.limits()
    assert finding.state == state and ("ulimit" in finding.detail) == (state == doctor.BAD)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, doctor.OK),
        ({"http_proxy": "http://proxy:3128"}, doctor.NOTE),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost"}, doctor.NOTE),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "localhost,127.0.0.1"}, doctor.OK),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, doctor.OK),
    ],
)
def test_a_proxy_that_catches_this_machine_is_pointed_out(monkeypatch, given, state):
    for name in ("http", "https", "all", "no"):
        for spelt in (f"{name}_proxy", f"{name}_proxy".upper()):
            monkeypatch.delenv(spelt, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    finding = doctor.proxies()
    assert finding.state == state and ("NO_PROXY" in finding.detail) == (state == doctor.NOTE)


def test_a_long_folder_for_temporary_files_is_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: "/tmp")
    assert doctor.sockets().state == doctor.OK
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: "/scratch/" + "x" * 60)
    assert "--temp-dir" in doctor.sockets().detail


def test_a_ray_to_join_that_does_not_answer_is_bad_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "CURRENT_CLUSTER", tmp_path / "none")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert doctor.cluster().state == doctor.NOTE
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    finding = doctor.cluster()
    assert finding.state == doctor.BAD and "127.0.0.1:1" in finding.detail and "->" in finding.detail


def test_a_package_that_is_installed_and_does_not_import_is_bad(tmp_path, monkeypatch):
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("raise ImportError('undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = doctor.attention()
    assert finding.state == doctor.BAD and "undefined symbol" in finding.detail and "sdpa" in finding.detail
