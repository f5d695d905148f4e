"""Where a factor on a channel can move from what gives the channel to what reads it, without another operator.

With ``x = S(…)`` and ``y = W x``, a factor s_j > 0 for each channel j changes nothing in ``y = (W diag(s)) (x / s)``;
the division goes into the last weights of S: the rows and bias of a linear layer, the weight and bias of a norm, the
columns of an embedding. It holds where W, or several like it, are all that see x.

What links a post-norm layer has, as ``h = LayerNorm(x + f(x))``:

- value → attention output: attention averages the values of a channel over tokens;
- up → down, where the activation is a ReLU, which is positively homogeneous; GELU is not;
- the last norm → the first linear layer of the head, which alone reads it;
- a factorized word embedding's table → its projection.

It has none from its norms to query, key, value and up: there x is the residual too, and a LayerNorm over ``x / s`` is
not one over x, so that exactness would take a multiplication in the graph. An element-wise norm is linear: in
MobileBERT, whose NoNorm is ``w (x + f(x)) + b``, dividing f's last rows and bias as well and multiplying w by s gives
the sum back, and every linear layer of its encoder reads through a link.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.families.family import LAYER_INPUT, Link
from edgetf.models.modules import FactorizedEmbedding
from edgetf.models.slicing import feed_forwards_of, layers_of


def links_of(model: Any) -> list[Link]:
    """The links of a model that hold, bottom first, with paths that start at the model and the readers that are there.

    Pruning leaves parts that read nothing; theirs are left out.
    """
    family = family_of(model.config.model_type)
    words, given = family.word_embedding, family.first_norm
    links = []
    if isinstance(model.get_submodule(words), FactorizedEmbedding):
        links.append(Link(f"{words}.table", (f"{words}.wide",)))
    inside = (
        *family.layer_links(model.config.to_dict()),
        Link(family.value, (family.attention_output,)),
        *(Link(part.up, (part.down,), activation=part.activation) for part in feed_forwards_of(model)),
    )
    for index in range(len(layers_of(model))):
        at = f"{family.layers}.{index}"
        links += [_placed(link, at, given) for link in inside if given or link.source != LAYER_INPUT]
        given = f"{at}.{family.last_norm}" if family.last_norm else None
    head = [path for path in family.head_reads if isinstance(_module(model, path), nn.Linear)]
    if given and head:
        links.append(Link(given, (head[0],)))
    links += family.head_links
    return [_present(model, link) for link in links if _holds(model, link)]


def _placed(link: Link, at: str, given: str | None) -> Link:
    """A layer's link with paths that start at the model; `given` is the norm before the layer."""
    paths = {
        name: getattr(link, name) and f"{at}.{getattr(link, name)}" for name in ("activation", "beside", "undone_by")
    }
    source = given if given and link.source == LAYER_INPUT else f"{at}.{link.source}"
    return replace(link, source=source, readers=tuple(f"{at}.{path}" for path in link.readers), **paths)


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _present(model: nn.Module, link: Link) -> Link:
    """The link with the readers that pruning has left."""
    return replace(link, readers=tuple(path for path in link.readers if isinstance(_module(model, path), nn.Linear)))


def _holds(model: nn.Module, link: Link) -> bool:
    """Whether the parts of a link are there, and are such that moving a factor along it changes nothing."""
    source = _module(model, link.source)
    if not isinstance(getattr(source, "weight", None), Tensor) or not _present(model, link).readers:
        return False
    if link.activation is not None and not isinstance(_module(model, link.activation), nn.ReLU):
        return False
    return link.undone_by is None or _is_element_wise(_module(model, link.undone_by))


def _is_element_wise(norm: nn.Module | None) -> bool:
    from transformers.models.mobilebert.modeling_mobilebert import NoNorm

    return isinstance(norm, NoNorm)


@torch.no_grad()
def move_factors(model: nn.Module, link: Link, factors: Tensor) -> None:
    """Divide the channels of a link by positive factors (J,), and multiply the readers' columns by them, in place."""
    source = model.get_submodule(link.source)
    if isinstance(source, nn.Embedding):
        source.weight.div_(factors)
    else:
        _divide(source, factors)
    for path in link.readers:
        reader: Any = model.get_submodule(path)
        reader.weight.mul_(factors)
    if link.beside is not None and link.undone_by is not None:
        _divide(model.get_submodule(link.beside), factors)
        norm: Any = model.get_submodule(link.undone_by)
        norm.weight.mul_(factors)


def _divide(module: nn.Module, factors: Tensor) -> None:
    """Divide what a norm or a linear layer gives; of a pruned one its bias is all there is."""
    for name in ("weight", "bias"):
        tensor = getattr(module, name, None)
        if isinstance(tensor, Tensor):
            tensor.div_(factors[:, None] if tensor.dim() == 2 else factors)
