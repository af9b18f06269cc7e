"""What the commits of a plan cost on the weight store: bytes, erased pages, and epochs until the pages are worn."""

from typing import NamedTuple

from kilotune.codegen.drawing import find_drawing, present_bytes
from kilotune.codegen.store import N_BANKS, PAGE_BYTES, Medium, StoreAccount
from kilotune.graph.ways import round_at_random
from kilotune.memory.ledger import Layout
from kilotune.policies.fit import Selector
from kilotune.update_plan import UpdatePlan

_FLOAT_BYTES = 4


class Wear(NamedTuple):
    """image_bytes: what a commit consists of; store_bytes: pages of both banks; bytes_per_commit: what it writes.

    erases_per_epoch: pages erased; a page is erased at every second commit. epochs: until the first page has had ``erases``.
    """

    image_bytes: int
    store_bytes: int
    bytes_per_commit: int
    commits_per_epoch: int
    bytes_per_epoch: int
    erases_per_epoch: int
    erases: int
    epochs: float


def wear(layout: Layout, plan: UpdatePlan, commits_per_epoch: int, erases: int, page_bytes: int = PAGE_BYTES) -> Wear:
    """Wear of pages that survive ``erases`` erases under a policy that draws ``plan`` and others from the same layers.

    Committed are the weights of all layers that draws may train, what stays from step to step, and the draw: of ``plan`` its
    own, so that a larger draw of the same policy commits a little more.
    """
    image = image_bytes(layout, plan)
    account = StoreAccount(image, Medium("the store", page_bytes, 0, erases))
    n_pages = account.n_pages // N_BANKS
    return Wear(
        image,
        account.nbytes,
        account.bytes_per_commit,
        commits_per_epoch,
        account.bytes_per_commit * commits_per_epoch,
        n_pages * commits_per_epoch,
        erases,
        account.epochs_until_worn(commits_per_epoch),
    )


def image_bytes(layout: Layout, plan: UpdatePlan) -> int:
    """Bytes of a commit while ``plan`` is drawn (``Program.image_bytes`` of the largest draw)."""
    layers = layout.graph.layer
    chosen = [(len(one.indices), layers[one.layer].channel_weight_elements) for one in plan.channels]
    return _image_bytes(layout, sum(n for n, _ in chosen), sum(n * each for n, each in chosen), plan.state_bytes)


def largest_image_bytes(selector: Selector) -> int:
    """Bytes of a commit of the largest draw (``Program.image_bytes``); 0 for a policy that chooses once.

    Raises ExportError for a policy that the device cannot carry out.
    """
    drawing = find_drawing(selector, 0)
    if drawing is None:
        return 0
    state_bytes = selector.fitting.state_bytes(selector.fitting.bound(selector.size))
    return _image_bytes(selector.layout, drawing.max_channels, drawing.max_weights, state_bytes)


def _image_bytes(layout: Layout, n_channels: int, n_weights: int, state_bytes: int) -> int:
    weights = sum(layout.graph.layer[name].weight_elements for name in layout.pool)
    deltas = n_weights * layout.accounting.resident_copies
    stays = layout.resident_bytes - layout.accounting.program_bytes + state_bytes
    draw = present_bytes(len(layout.pool), n_channels, round_at_random(layout.ways.values()))
    return (weights + deltas) * _FLOAT_BYTES + stays + draw
