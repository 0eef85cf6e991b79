import re
import subprocess
import sys
from pathlib import Path

from modeldrop import Repository

ROOT = Path(__file__).parents[1]


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


def test_every_test_that_a_promise_names_is_there() -> None:
    named = set(re.findall(r"tests/\w+\.py", (ROOT / "docs" / "promises.md").read_text()))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()
    [negative] = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "promises.md").read_text())
    assert any(f"def {negative}(" in path.read_text() for path in (ROOT / "tests").glob("*.py"))
