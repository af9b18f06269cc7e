"""``doctor`` on a user's own network."""

import pytest
import torch

from kilotune.policies.medyate import Medyate


@pytest.fixture(autouse=True)
def _one_thread():
    """Layers this small only wait for a second thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


NET = ("doctor", "cli_network:make", "--input", "1x8x8")


def test_every_check_passes_on_a_users_network(kilotune, folder):
    result = kilotune(*NET, "--json").json
    assert result["passed"] is True
    assert len(result["checks"]) == 9
    assert all(check["passed"] and check["detail"] for check in result["checks"])


@pytest.mark.parametrize("budget", [("--budget", "12KiB"), ("--budget", "2KiB", "--ledger", "selection"), ()])
def test_on_images_under_a_budget(kilotune, folder, budget):
    called = kilotune(*NET, "--data", "data.npz", *budget, "--policy", "trady")
    assert called.code == 0
    assert "all 9 checks passed" in called.stdout


def test_a_fault_is_exit_code_1(kilotune, folder, monkeypatch):
    draw = Medyate.draw
    monkeypatch.setattr(Medyate, "draw", lambda self, task, size, *rest: draw(self, task, 3 * size, *rest))
    called = kilotune(*NET, "--json")
    assert called.code == 1
    failed = {check["name"] for check in called.json["checks"] if not check["passed"]}
    assert failed == {"every draw fits"}
    text = kilotune(*NET)
    assert text.code == 1
    assert "1 of 9 checks failed" in text.stdout


def test_a_budget_that_nothing_fits(kilotune, folder):
    called = kilotune(*NET, "--budget", "100")
    assert called.code == 1
    assert "needs at least" in called.stderr
