from kilotune.train.progress import Progress


def run(quiet: bool) -> None:
    with Progress(2, 10, 4096, quiet) as progress:
        progress.start_epoch(0, 2048, 0.125)
        progress.at(3, 1.25)


def test_silent_where_there_is_no_terminal(capfd):
    run(quiet=False)
    assert capfd.readouterr() == ("", "")


def test_shows_bytes_loss_and_accuracy_on_stderr(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    run(quiet=False)
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("1/2", "3/10", "2.0 of at most 4.0 KiB", "1.250", "12.5%"):
        assert part in err


def test_quiet(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run(quiet=True)
    assert capfd.readouterr() == ("", "")
