"""docs/operations.md and deploy/: what they say is what there is."""

import tomllib
from pathlib import Path

import pytest
import yaml

from modeldrop import config
from modeldrop.intake.summary import no_runs
from modeldrop_cli.main import main
from support import operations

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_every_state_is_explained_and_no_other() -> None:
    assert set(operations.STATES) == {*no_runs(), "junk"}
    for state in operations.STATES:
        assert f"| `{state}` |" in PAGE, "run `make docs`"


def test_settings_that_it_shows_are_valid() -> None:
    (block,) = (each.partition("```")[0] for each in PAGE.split("```toml\n")[1:])

    config.parse(tomllib.loads(block), "docs/operations.md")


def containers() -> list[dict[str, object]]:
    found = []
    for each in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8")):
        spec = each["spec"]
        spec = spec["jobTemplate"]["spec"] if each["kind"] == "CronJob" else spec
        pod = spec["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        for one in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
            found.append(one)
    return found


def test_pods_mount_what_the_image_uses() -> None:
    image = (ROOT / "deploy" / "Containerfile").read_text("utf-8")
    ours = [each for each in containers() if each["image"] == "modeldrop:latest"]

    assert len(ours) == 3
    for each in ours:
        mounts = each["volumeMounts"]
        assert isinstance(mounts, list)
        for mount in mounts:
            assert f'"{mount["mountPath"]}"' in image


@pytest.mark.parametrize("path", ["store", "daemon", "cli", "systemd", "pyproject.toml", "LICENSE"])
def test_build_of_the_image_sees_what_it_needs(path: str) -> None:
    assert f"!{path}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_image_is_healthy_by_what_status_prints(capsys: pytest.CaptureFixture[str]) -> None:
    # `status --json` is what its health check looks into.
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    image = (ROOT / "deploy" / "Containerfile").read_text("utf-8")
    assert '"running": false' in capsys.readouterr().out
    assert r"grep -q '\"running\": true'" in image
