"""The progress bar on stderr: epoch, bytes now and at worst, loss, accuracy, time left."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kilotune.units import kib


class Progress:
    """A bar over all steps of a run; invisible where stderr is no terminal or ``quiet`` is asked for."""

    def __init__(self, n_epochs: int, n_steps: int, worst_bytes: int, quiet: bool = False):
        console = Console(stderr=True)
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[memory]}  loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, disable=quiet or not console.is_terminal)
        self._n_epochs = n_epochs
        self._worst_bytes = worst_bytes
        self._task = self._bar.add_task("", total=n_steps, epoch="", memory="", loss=float("nan"), accuracy=0.0)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def start_epoch(self, epoch: int, bytes_now: int, accuracy: float) -> None:
        """Show the epoch (from 0), the bytes of its plan, and the last accuracy measured."""
        memory = f"{kib(bytes_now):,.1f} of at most {kib(self._worst_bytes):,.1f} KiB"
        self._bar.update(self._task, epoch=f"{epoch + 1}/{self._n_epochs}", memory=memory, accuracy=accuracy)

    def at(self, step: int, loss: float) -> None:
        """Show that ``step`` steps of the run are done and the mean loss of the epoch so far."""
        self._bar.update(self._task, completed=step, loss=loss)
