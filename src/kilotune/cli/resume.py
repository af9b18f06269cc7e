"""``kilotune resume``: go on with a run."""

from kilotune.cli import options
from kilotune.cli.output import log_on_stderr, use_threads


def resume(run: options.RunFolder, threads: options.Threads = None, as_json: options.AsJson = False) -> None:
    """Go on with a run that was broken off, with the result it would have had without the break."""
    from kilotune.cli.finetune import emit_summary
    from kilotune.deploy.trainer import TUNERS
    from kilotune.train import run as runs

    use_threads(threads)
    with log_on_stderr():
        record = runs.resume(run, tuners=TUNERS)
    emit_summary(run, record, as_json)
