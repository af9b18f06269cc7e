from pathlib import Path

from kilotune.policies.ranking import Ranking


def test_the_ranking_is_saved_printed_and_accepted_by_plan(kilotune, folder):
    arguments = ["rank", "cli_network:make", "--data", "data.npz", "--epochs", "1", "--out", "new/ranking.json"]
    result = kilotune(*arguments, "--json").json
    ranking = Ranking.load(Path("new/ranking.json"))
    assert (ranking.network, ranking.layers, ranking.task) == ("cli_network:make", ("0", "3"), "data.npz")
    assert (tuple(result["rgn"]), tuple(result["lara"])) == (ranking.rgn, ranking.lara)
    # Where no size was asked for, a model of the user's own gets the images as they are.
    assert '"input":[1,8,8]' in ranking.provenance["recipe"]
    budget = ["--budget", "8KiB", "--input", "1x8x8", "--ranking", "new/ranking.json"]
    assert kilotune("plan", "cli_network:make", *budget, "--json").code == 0


def test_the_table_gives_each_layer_its_place(kilotune, folder):
    text = kilotune("rank", "cli_network:make", "--data", "data.npz", "--epochs", "1", "--out", "ranking.json").stdout
    ranking = Ranking.load(Path("ranking.json"))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line[:1] in ("0", "3")}
    best = ranking.layers[ranking.rgn.index(max(ranking.rgn))]
    assert {name: row[2] for name, row in rows.items()} == {name: "1" if name == best else "2" for name in rows}
