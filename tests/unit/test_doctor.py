"""The doctor compares what is installed with the lock file of the installation that it is."""

from __future__ import annotations

import importlib.util
from importlib import metadata

import pytest

from chord_exp import doctor

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
