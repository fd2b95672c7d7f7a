"""The job files in examples/, as far as they can be tried without a cluster: its commands are stood in for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image

from tests.train.processes import names_in, start

EXAMPLES = Path(__file__).parents[2] / "examples"
SBATCH = EXAMPLES / "slurm" / "train.sbatch"
YAML = EXAMPLES / "kubernetes" / "train.yaml"

# What SLURM would start on two nodes, on this one.
SRUN = '#!/bin/sh\n"$@" & first=$!\n"$@"\ncode=$?\nwait $first && exit $code\n'


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def environment(**more: object) -> dict[str, str]:
    """With this installation's torchrun, and the address of this machine that every machine has."""
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": found, "PET_LOCAL_ADDR": "127.0.0.1"} | {key: str(more[key]) for key in more}


def job() -> dict[str, Any]:
    _, found = yaml.safe_load_all(YAML.read_text())
    assert (found["apiVersion"], found["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    return dict(found["spec"])


def container() -> dict[str, Any]:
    (found,) = job()["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    return dict(found)


def small_recipe(path: Path) -> Path:
    path.write_text("[model]\nwidth = 4\n[training]\nrounds = 4\ncohort = 4\n[clients]\ncount = 1000\nheld_out = 990\n")
    return path


def test_the_job_files_can_be_read() -> None:
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    worker = job()["pytorchReplicaSpecs"]["Worker"]
    assert job()["elasticPolicy"]["maxReplicas"] >= worker["replicas"] >= job()["elasticPolicy"]["minReplicas"]
    mounted = {mount["name"] for mount in container()["volumeMounts"]}
    assert mounted == {volume["name"] for volume in worker["template"]["spec"]["volumes"]}


def test_the_slurm_job_trains_and_asks_for_more_time_only_when_it_ran_out(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, script in (
        ("scontrol", f'#!/bin/sh\nif [ "$1" = requeue ]; then echo "$2" >{tmp_path}/again; else echo 127.0.0.1; fi\n'),
        ("srun", SRUN),
    ):
        (stubs / name).write_text(script)
        (stubs / name).chmod(0o755)
    settings = environment(
        RECIPE=small_recipe(tmp_path / "recipe.toml"),
        RUN=tmp_path / "run",
        WORKERS=1,
        PORT=free_port(),
        SLURM_JOB_NODELIST="n[1-2]",
        SLURM_NNODES=2,
        SLURM_CPUS_PER_TASK=1,
        SLURM_JOB_ID=7,
        SLURM_JOB_END_TIME=2_000_000_000,
    )
    settings["PATH"] = f"{stubs}{os.pathsep}{settings['PATH']}"
    process = start("bash", SBATCH, env=settings, cwd=tmp_path)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert out.count("run folder: ") == 1
    (tmp_path / "run" / "evaluation.json").unlink()
    (stubs / "srun").write_text("#!/bin/sh\nexit 1\n")
    for end, asked in ((2_000_000_000, False), (0, True)):
        ended = start("bash", SBATCH, env=settings | {"SLURM_JOB_END_TIME": str(end)}, cwd=tmp_path)
        ended.communicate(timeout=60)
        assert ended.returncode == 1
        assert (tmp_path / "again").exists() == asked


def test_the_kubernetes_job_trains(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    recipe, _ = yaml.safe_load_all(YAML.read_text())
    pictures = tmp_path / "pictures"
    for number in range(64 * 3):
        client, place = divmod(number, 3)
        folder = pictures / f"client-{client}" / ("a" if client % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, place, 7)).save(folder / f"{place}.png")
    text = recipe["data"]["recipe.toml"].replace("/data", str(tmp_path)).replace("rounds = 300", "rounds = 2")
    (tmp_path / "recipe.toml").write_text(text.replace("[training]", "[model]\nwidth = 4\n\n[training]"))
    command = [
        part.replace("/recipe/", f"{tmp_path}/").replace("/data", str(tmp_path)).replace("node=4", "node=1")
        for part in container()["command"]
    ]
    policy = job()["elasticPolicy"]
    settings = environment(  # what the operator sets
        PET_RDZV_ENDPOINT=f"127.0.0.1:{free_port()}",
        PET_RDZV_BACKEND=policy["rdzvBackend"],
        PET_RDZV_ID=policy["rdzvId"],
        PET_NNODES=f"{policy['minReplicas']}:{policy['maxReplicas']}",
        PET_MAX_RESTARTS=policy["maxRestarts"],
    )
    settings |= {each["name"]: each["value"].replace("/data", str(tmp_path)) for each in container()["env"]}
    pods = [start(*command, env=settings) for _ in range(policy["maxReplicas"])]
    outputs = [process.communicate(timeout=300) for process in pods]
    assert [process.returncode for process in pods] == [0, 0], outputs
    assert "evaluation.json" in names_in(tmp_path / "run")
    assert sum("reading pictures: done" in errors for _, errors in outputs) <= 1
