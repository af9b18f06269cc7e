"""``kilotune eval``: how good a run is."""

from dataclasses import asdict

from kilotune.cli import options
from kilotune.cli.output import emit, use_threads


def evaluate(
    run: options.RunFolder, data: options.Data, threads: options.Threads = None, as_json: options.AsJson = False
) -> None:
    """Accuracy and loss of a run on the test split of a data set."""
    from kilotune.train.run import open_run

    use_threads(threads)
    metrics = open_run(run).evaluate(data)
    emit(
        asdict(metrics),
        as_json,
        lambda: f"accuracy {metrics.accuracy:.2%}, loss {metrics.loss:.4f}, {metrics.n:,} images",
    )
