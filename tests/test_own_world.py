"""No test reaches the home or the environment of the person who runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_home_is_an_empty_folder_of_this_test(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path.home()

    assert home.is_relative_to(tmp_path_factory.getbasetemp())
    assert list(home.iterdir()) == []


def test_working_folder_is_that_of_this_test(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path


def test_child_processes_are_kept_out_too() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", "import pathlib; print(pathlib.Path.home())"],
        capture_output=True,
        check=True,
        text=True,
    )

    assert answer.stdout.strip() == str(Path.home())


@pytest.mark.parametrize("prefix", ["MODELDROP_", "AWS_", "AZURE_"])
def test_nothing_is_inherited_that_names_a_store_or_a_secret(prefix: str) -> None:
    inherited = {name for name in os.environ if name.startswith(prefix)}

    assert inherited <= {"AWS_EC2_METADATA_DISABLED"}


@given(st.binary())
def test_a_property_test_lives_in_the_same_world(data: bytes) -> None:
    assert "MODELDROP_HOME" not in os.environ
