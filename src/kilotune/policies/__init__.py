"""Which channels to train: every method is a row of ``POLICIES``."""

from dataclasses import fields

import msgspec

from kilotune.errors import PlanError
from kilotune.policies.base import Policy
from kilotune.policies.baselines import Bias, Classifier, Full, Last
from kilotune.policies.dgsu import Dgsu
from kilotune.policies.fisher import Fisher
from kilotune.policies.medyate import Medyate
from kilotune.policies.neurons import RandomNeurons
from kilotune.policies.oracles import DetRaw, DetRgn, ProbRaw, StaticDetRaw, StaticDetRgn
from kilotune.policies.sparse_update import SparseUpdate
from kilotune.policies.trady import TopkRandomStatic, Trady
from kilotune.policies.uniform import Random, StaticRandom
from kilotune.policies.velocity import Neq, Velocity, VelocityInput

POLICIES: dict[str, type[Policy]] = {
    "full": Full,
    "classifier": Classifier,
    "bias": Bias,
    "last": Last,
    "sparse_update": SparseUpdate,
    "random": Random,
    "static_random": StaticRandom,
    "topk_random_static": TopkRandomStatic,
    "trady": Trady,
    "medyate": Medyate,
    "dgsu": Dgsu,
    "velocity": Velocity,
    "velocity_input": VelocityInput,
    "neq": Neq,
    "random_neurons": RandomNeurons,
    "det_raw": DetRaw,
    "static_det_raw": StaticDetRaw,
    "det_rgn": DetRgn,
    "static_det_rgn": StaticDetRgn,
    "prob_raw": ProbRaw,
    "fisher": Fisher,
}


def make(name: str, **options: object) -> Policy:
    """The policy called ``name``; options are the fields of its class, also as text ("3" for 3).

    Raises PlanError for an unknown name, an unknown option, or a value that the option does not take.
    """
    if name not in POLICIES:
        raise PlanError(f"there is no policy {name!r}; choose from {', '.join(POLICIES)}")
    known = [option.name for option in fields(POLICIES[name])]  # type: ignore[arg-type]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise PlanError(f"policy {name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    try:
        return msgspec.convert(options, type=POLICIES[name], strict=False)
    except msgspec.ValidationError as error:
        raise PlanError(f"policy {name} cannot take these options: {error}; it has {', '.join(known)}") from error
