import re
import subprocess
import sys
from pathlib import Path

import pytest

from modeldrop import Repository

ROOT = Path(__file__).parents[1]
THREATS = ROOT / "docs" / "threat-model.md"


def test_the_python_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    Repository.init(tmp_path / ".mlops")[0].close()
    (tmp_path / "model.onnx").write_bytes(b"a model")
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["1", "serving/model.onnx"]
    assert (tmp_path / "serving" / "model.onnx").read_bytes() == b"a model"


def test_every_page_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", ["promises.md", "threat-model.md"])
def test_every_test_that_a_page_of_promises_names_is_there(page: str) -> None:
    named = set(re.findall(r"tests/[\w/]+\.py", (ROOT / "docs" / page).read_text()))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_module_that_holds_against_a_threat_is_there_and_shown_by_a_test() -> None:
    roots = ("store/modeldrop", "daemon/modeldrop_daemon", "systemd")
    rows = re.findall(r"^\|(.*)\|(.*)\|(.*)\|(.*)\|$", THREATS.read_text(), re.MULTILINE)
    lines = [row for row in rows if row[0].strip() not in {"tried", "---"}]
    assert lines
    for _, _, where, shown in lines:
        modules = re.findall(r"`([^`]+)`", where)
        assert modules, where
        assert "tests/" in shown, where
        for each in modules:
            found = [ROOT / root / f"{each}{end}" for root in roots for end in ("", ".py")]
            assert any(path.exists() for path in found), each


def test_every_page_that_security_names_is_there() -> None:
    for page in (ROOT / "SECURITY.md", THREATS):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert links
        assert [link for link in links if not (page.parent / link).exists()] == []
