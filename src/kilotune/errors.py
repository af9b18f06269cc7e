"""Every exception kilotune raises on purpose. A message says what was asked, what was found and what to change."""


class KilotuneError(Exception):
    """Base of all errors below; the command line turns it into one line and exit code 1."""


class UnsupportedError(KilotuneError):
    """A model contains operations that cannot be trained here; the message lists every one of them."""


class BudgetError(KilotuneError):
    """A budget cannot hold even the smallest selection of the policy that was asked for."""


class PlanError(KilotuneError):
    """An update plan contradicts itself, or names layers or channels that the network does not have."""


class RankingError(KilotuneError):
    """A layer ranking is missing, corrupt, or belongs to another network."""


class ShapeError(KilotuneError):
    """A tensor does not have the shape that the network was captured with."""


class WeightsError(KilotuneError):
    """A weight file is missing, corrupt, or does not match the network."""


class DataError(KilotuneError):
    """A data set is missing, empty, corrupt, or of another format than expected."""


class ModelError(KilotuneError):
    """A model name is unknown, or the user's ``module:callable`` cannot be imported."""


class RunError(KilotuneError):
    """A run folder is missing, corrupt, or from another recipe than the one asked for."""


class TrainingError(KilotuneError):
    """Training cannot go on: the loss is not finite, or the disk is full."""


class ExportError(KilotuneError):
    """A network and plan cannot become a C project, or the project is damaged or incomplete."""


class EmulatorError(KilotuneError):
    """A project cannot be built for a board or run on it: a tool is missing, memory overflows, the firmware faults or hangs."""


class PruneError(KilotuneError):
    """A network cannot be pruned as asked, or the library that prunes it is missing."""
