import json
from pathlib import Path

import pytest
import torch

import kilotune as kt
from kilotune.models import create

KEYS = {"policy", "budget_bytes", "ledger", "selection", "total", "worst_case", "channels"}
BUDGET = 8192
BUDGETS = {"total": "8192", "selection": "2000"}


@pytest.fixture
def plan(kilotune, folder):
    """``kilotune plan`` on the user's network at 1x8x8 under 8 KiB."""
    return lambda *more: kilotune("plan", "cli_network:make", "--budget", "8KiB", "--input", "1x8x8", *more)


def captured():
    return kt.capture(create("cli_network:make"), torch.zeros(1, 1, 8, 8))


def test_json_agrees_with_the_library(plan):
    result = plan("--policy", "trady", "--seed", "3", "--json").json
    assert result.keys() >= KEYS
    graph = captured()
    drawn = kt.plan(graph, "trady", BUDGET, seed=3)
    report = kt.ledger(graph, drawn)
    assert result["channels"] == json.loads(drawn.to_json())["channels"]
    assert result["selection"] == {
        "elements": report.selection_elements,
        "bytes": report.selection_bytes,
        "weight_elements": report.weight_elements,
        "activation_elements": report.activation_elements,
    }
    assert (result["total"]["bytes"], result["total"]["by_kind"]) == (report.total_bytes, report.by_kind)
    assert sum(result["total"]["by_kind"].values()) == result["total"]["bytes"]
    assert "draws" not in result


def test_layers_left_out_are_told(plan, kilotune):
    digitnet = ("plan", "digitnet", "--input", "3x32x32", "--budget", "120KiB", "--policy", "random")
    first = kilotune(*digitnet, "--json").json["first_layer"]
    assert first == "features.1.conv.1.0"
    assert f"layers before {first} are left out" in kilotune(*digitnet).stdout
    assert plan("--json").json["first_layer"] is None
    assert "left out" not in plan().stdout


@pytest.mark.parametrize("ledger", ["total", "selection"])
def test_every_draw_stays_within_worst_case_and_budget(plan, ledger):
    result = plan("--policy", "random", "--budget", BUDGETS[ledger], "--ledger", ledger, "--draws", "25", "--json").json
    worst, draws = result["worst_case"], result["draws"]
    assert len(draws) == 25
    assert len({tuple(draw.values()) for draw in draws}) > 1
    assert max(draw["selection_elements"] for draw in draws) <= worst["selection_elements"]
    assert max(draw["total_bytes"] for draw in draws) <= worst["total_bytes"]
    limited = {"total": worst["total_bytes"], "selection": 4 * worst["selection_elements"]}
    assert limited[ledger] <= int(BUDGETS[ledger])
    assert draws[0] == {
        "selection_elements": result["selection"]["elements"],
        "total_bytes": result["total"]["bytes"],
    }


def test_text_shows_layers_ledgers_head_room_and_picture(plan):
    called = plan("--draws", "2")
    result = plan("--json").json
    for nbytes in (result["selection"]["bytes"], result["total"]["bytes"], result["worst_case"]["total_bytes"]):
        assert f"{nbytes:,}" in called.stdout
    room = BUDGET - result["worst_case"]["total_bytes"]
    assert f"head-room in the worst case: {room:,} B" in called.stdout
    for layer, _, indices in result["channels"]:
        row = next(line.split() for line in called.stdout.splitlines() if line.startswith(f"{layer} "))
        assert row[2].split("/")[0] == str(len(indices))
    assert "\nforward 0 " in called.stdout
    assert "\nbackward 0 " in called.stdout


def test_optimiser_batch_and_accumulation_are_counted(plan):
    graph = captured()
    options = ["--policy", "classifier", "--optimizer", "adam", "--no-accumulate", "--batch", "3"]
    result = plan(*options, "--json").json
    accounting = kt.Accounting(batch=3, accumulate=False, optimizer="adam")
    expected = kt.ledger(graph, kt.UpdatePlan(), accounting=accounting)
    assert result["total"]["by_kind"] == expected.by_kind
    assert expected.by_kind["classifier_optimizer"] == 2 * 4 * 39


def test_a_budget_of_parameters(plan):
    result = plan("--policy", "velocity", "--budget", "400", "--ledger", "parameters", "--draws", "9", "--json").json
    assert result["parameters"]["bytes"] == 4 * result["selection"]["weight_elements"]
    assert result["parameters"]["bytes"] <= result["worst_case"]["parameters_bytes"] <= 400
    assert result["worst_case"]["selection_bytes"] > 400, "inputs are not counted by this ledger, and are there"
    assert {axis for _, axis, _ in result["channels"]} == {"out"}
    assert "head-room" in plan("--policy", "velocity", "--budget", "400", "--ledger", "parameters").stdout


def test_the_pass_of_an_oracle_is_shown(plan):
    result = plan("--policy", "det_rgn", "--budget", "2000", "--ledger", "selection", "--json").json
    assert result["survey"]["total_bytes"] == sum(result["survey"]["by_kind"].values()) > 0
    assert "survey" not in plan("--policy", "trady", "--json").json
    for policy, how_often in (("prob_raw", "each draw"), ("static_det_rgn", "the first draw")):
        text = plan("--policy", policy, "--budget", "2000", "--ledger", "selection").stdout
        assert "the oracle's own pass, outside the budget: total" in text
        assert f"before {how_often}; the draw above is uniform" in text


def test_policy_options_reach_the_policy(plan):
    assert plan("--budget", "16KiB", "--policy", "last", "--option", "k=1", "--json").json["channels"] == [
        ["3", "in", [0, 1, 2, 3, 4, 5]]
    ]


def test_the_plan_file_has_the_same_ledger(plan, kilotune):
    drawn = plan("--out", "plan.json", "--json").json
    assert kt.UpdatePlan.from_json(Path("plan.json").read_bytes()).to_json()
    again = kilotune("ledger", "cli_network:make", "plan.json", "--input", "1x8x8", "--json").json
    assert {key: drawn[key] for key in again} == again
    text = kilotune("ledger", "cli_network:make", "plan.json", "--input", "1x8x8").stdout
    assert f"{drawn['total']['bytes']:,}" in text


def test_a_ranking_decides_where_to_train(plan):
    graph = captured()
    chosen = {}
    for best in (0, 1):
        scores = tuple(float(place == best) for place in range(2))
        ranking = kt.Ranking("net", _fingerprint(graph), ("0", "3"), scores, scores, "test", 1)
        ranking.save(Path("ranking.json"))
        result = plan("--policy", "trady", "--option", "k=1", "--ranking", "ranking.json", "--json").json
        chosen[best] = {layer for layer, _, _ in result["channels"]}
    assert chosen == {0: {"0"}, 1: {"3"}}


def _fingerprint(graph):
    from kilotune.policies.ranking import fingerprint

    return fingerprint(graph)


def test_auto_compares_combinations_and_takes_the_best(kilotune, folder):
    fit = ["plan", "cli_network:make", "--input", "1x8x8", "--budget", "8KiB", "--policy", "auto", "--data", "data.npz"]
    result = kilotune(*fit, "--classes", "3", "--json").json
    rows = result["combinations"]
    assert rows[0]["arguments"].startswith(f"--policy {result['policy']}")
    assert rows[0]["gradient_share"] == max(row["gradient_share"] for row in rows)
    assert all(row["worst_total_bytes"] <= 8192 for row in rows if row["fits"])
    tried = {row["arguments"] for row in rows}
    assert {"--policy medyate --keep int8", "--policy medyate --keep asi:2", "--policy bias"} <= tried
    assert any("biases=" in one for one in tried)
    assert any("front=" in one for one in tried)
    assert result["worst_case"]["total_bytes"] == rows[0]["worst_total_bytes"]
    text = kilotune(*fit, "--classes", "3").stdout
    assert f"chosen: {rows[0]['arguments']}\n" in text
    assert text.count("chosen: ") == 2
    again = kilotune("plan", *fit[1:6], *rows[0]["arguments"].split(), "--classes", "3", "--json").json
    assert again["channels"] == result["channels"], "the arguments it prints give the same plan"


def test_a_way_of_keeping_makes_room(kilotune, folder):
    fit = ["plan", "cli_network:make", "--input", "1x8x8", "--budget", "9KiB", "--policy", "trady", "--json"]
    exact, kept = (kilotune(*fit, *more).json for more in ((), ("--keep", "int8")))
    assert kept["selection"]["activation_elements"] < exact["selection"]["activation_elements"]
    assert kept["worst_case"]["total_bytes"] <= 9 * 1024


def test_ways_by_layer_in_a_file_or_on_the_command_line(kilotune, folder):
    fit = ["plan", "cli_network:make", "--input", "1x8x8", "--budget", "9KiB", "--policy", "trady", "--json"]
    Path("ways.json").write_text('{"3": "hosvd:0.8:0.25"}')
    plans = [kilotune(*fit, "--keep", keep).json for keep in ("ways.json", "3=hosvd:0.8:0.25")]
    assert plans[0] == plans[1]
    assert plans[0]["keeps"] == [["3", "hosvd:0.8:0.25"]]
    assert plans[0]["total"]["by_kind"]["scratch"] >= 0


def test_a_firmware_shows_what_it_streams(kilotune, folder):
    """Bytes of both ways at the fullest step of each segment; the program's own bytes are part of the total."""
    options = [
        "--budget",
        "512KiB",
        "--classes",
        "10",
        "--input",
        "3x64x64",
        "--policy",
        "classifier",
        "--program",
        "3KiB",
    ]
    plain, firmware = (
        kilotune("plan", "mobilenet_v2_w0.35_mix", *options, way, "--json").json for way in ("--plain", "--streamed")
    )
    assert "streaming" not in plain
    first = firmware["streaming"][0]
    assert (first["layer"], first["direction"]) == ("features.0.0", "forward")
    assert first["bytes"] < first["plain_bytes"] / 4
    assert firmware["worst_case"]["total_bytes"] < plain["worst_case"]["total_bytes"]
    assert firmware["total"]["by_kind"]["program"] == 3 * 1024
    text = kilotune("plan", "mobilenet_v2_w0.35_mix", *options, "--streamed", "--svg", "arena.svg").stdout
    assert f"{first['plain_bytes']:,}" in text
    assert f"{first['extra_instructions']:,}" in text
    assert first["extra_instructions"] > 0
    assert Path("arena.svg").read_text().startswith("<svg")


def test_a_policy_that_needs_a_store_is_refused_before_there_is_a_project(plan, kilotune):
    for store, says in (("0", "there is no weight store"), ("8KiB", "the store has 8,192 B")):
        called = plan("--policy", "random", "--store", store, "--out", "plan.json")
        assert called.code == 1
        assert says in called.stderr
        assert not Path("plan.json").exists()
    found = plan("--policy", "random", "--store", "16KiB", "--json").json["store"]
    export = ("export", "cli_network:make", "--budget", "8KiB", "--input", "1x8x8", "--policy", "random")
    assert (
        found["store_bytes"] == kilotune(*export, "--out", "firmware", "--json").json["store_bytes"] <= found["bytes"]
    )
    assert "commits take 16,384 B (16.0 KiB) of 20,480 B" in plan("--policy", "random", "--store", "20KiB").stdout
    assert plan("--policy", "classifier", "--store", "0", "--json").json["store"]["image_bytes"] == 0
