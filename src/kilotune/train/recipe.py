"""Everything that decides a fine-tuning run, as one frozen value that is compared and stored with the result."""

from typing import Annotated, Any, Literal

import msgspec

from kilotune.errors import RunError
from kilotune.update_plan import Ledger

Backend = Literal["torch", "c"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fine-tuning run. Defaults are the papers' recipe (TraDy, section 5): plain SGD, batch 32, linear warm-up over 5
    epochs, cosine to zero, stepped per iteration; but not their learning rate 0.125, which needs batch norm in training mode.

    model, weights, data: names as the command line takes them; None where Python objects were passed in.
    input: (c, h, w), or (t,) for token ids. budget: as ``units.parse_bytes`` reads it; None trains without a limit.
    options: of the policy.
    streamed: whether the ledger counts a firmware that streams blocks (``memory.accounting``); program: bytes of its stack,
    .data and .bss.
    keep: how trained layers keep their inputs for backward, such as "hosvd:0.8", or such texts by layer; None: exactly.
    epochs: all epochs of the run, warm-up included. accumulate: micro-batches of ``batch_size`` per optimiser step.
    redraw: "policy" as the policy's paper does it, "never", every "epoch", every "step", or every so many steps,
    counted from the start of each epoch. augment, mean, std: of ``data.augment.Augment``, for uint8 images; None is what
    the weights were trained with, or 0.5. train_limit, eval_limit: at most so many images of a data set.
    ranking: path of a layer ranking; None takes the one shipped for the network, else one from its shapes.
    channels_last: memory layout of activations, faster on most CPUs and GPUs. backend: who computes losses and gradients.
    """

    model: str | None = None
    weights: str | None = None
    data: str | None = None
    input: tuple[Positive, ...] | None = None
    budget: str | int | None = None
    ledger: Ledger = "total"
    streamed: bool = False
    program: Count = 0
    policy: str = "medyate"
    options: dict[str, Any] = {}
    keep: str | dict[str, str] | None = None
    epochs: Positive = 10
    warmup_epochs: Count = 5
    batch_size: Positive = 32
    accumulate: Positive = 1
    lr: Annotated[float, msgspec.Meta(gt=0)] = 0.02
    optimizer: str = "sgd"
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    weight_decay: Amount = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: str = "crop"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int = 0
    ranking: str | None = None
    redraw: Literal["policy", "never", "epoch", "step"] | Positive = "policy"
    optimizer_state: Literal["reset", "keep"] = "reset"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    device: str = "auto"
    backend: Backend = "torch"
    train_limit: Positive | None = None
    eval_limit: Positive | None = None

    def __post_init__(self):
        if self.input is not None and len(self.input) not in (1, 3):
            raise ValueError(f"input is (c, h, w), or (t,) for token ids, got {self.input}")

    @classmethod
    def of(cls, **fields: Any) -> "Recipe":
        """The recipe with these fields. Raises RunError for unknown names and values out of range."""
        return _convert(fields)

    def but(self, **fields: Any) -> "Recipe":
        """This recipe with other values for some fields; raises as ``of`` does."""
        return _convert({**msgspec.structs.asdict(self), **fields})

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """The recipe that ``to_json`` wrote. Raises RunError for anything else, unknown keys included."""
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise RunError(f"this is not a recipe: {error}") from error
        return _convert(fields)


def _convert(fields: dict[str, Any]) -> Recipe:
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        names = ", ".join(Recipe.__struct_fields__)
        raise RunError(f"the recipe is not valid: {error}; its fields are {names}") from error
