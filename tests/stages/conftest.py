"""What tests of stages share: copies to spoil, and one thread for torch, whose networks here are too small for two."""

import shutil
import sys

import pytest


@pytest.fixture(autouse=True)
def one_torch_thread():
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def copy(published, tmp_path):
    """A copy of all that a module's ``published`` fixture made, for changes."""
    shutil.copytree(published, tmp_path / "copy")
    return tmp_path / "copy"
