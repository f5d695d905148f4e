"""Remove heads, neurons, hidden width and words for real: smaller dense layers, so that any runtime gets the speed.

A feed-forward computes ``y = W_down @ act(W_up @ x + b_up) + b_down``; neuron j is row j of W_up and b_up with column
j of W_down. A head is a block of rows of the query, key and value projections with the same columns of the output
projection. A hidden dimension is a column of all that reads the residual stream and a row of all that writes it.
Removing any of them equals multiplying it by zero, where the norms go over the dimensions that are left (CoFi, Xia et
al. 2022). A part without units is left as its output bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.families.family import Family, FeedForward, LayerShape, Shape
from edgetf.models.modules import BiasOnly, FactorizedEmbedding, NoAttention
from edgetf.models.shapes import plain_shape, shape_of, with_shape


def layers_of(model: Any) -> list[nn.Module]:
    """The encoder layers, bottom first."""
    return list(model.get_submodule(family_of(model.config.model_type).layers))


def feed_forwards_of(model: Any) -> tuple[FeedForward, ...]:
    """The feed-forwards that every layer of this model has."""
    return family_of(model.config.model_type).feed_forwards(model.config.to_dict())


def heads_of(model: Any, layer: nn.Module) -> int:
    """Attention heads of one layer."""
    family = family_of(model.config.model_type)
    attention = layer.get_submodule(family.attention)
    return 0 if isinstance(attention, NoAttention) else int(getattr(attention, family.head_count[0]))


def neurons_of(layer: nn.Module, part: FeedForward) -> int:
    """Neurons of one feed-forward."""
    down = layer.get_submodule(part.down)
    return 0 if isinstance(down, BiasOnly) else int(linear_at(layer, part.down).in_features)


def model_shape(model: Any) -> Shape:
    """The shape of a model as its modules are."""
    config = model.config.to_dict()
    family, parts = family_of(model.config.model_type), feed_forwards_of(model)
    words = model.get_submodule(family.word_embedding)
    layers = tuple(
        LayerShape(heads_of(model, layer), tuple(neurons_of(layer, part) for part in parts))
        for layer in layers_of(model)
    )
    return Shape(
        hidden_size=int(model.get_submodule(family.position_embedding).embedding_dim),
        head_width=shape_of(config).head_width,
        layers=layers,
        embedding_size=words.table.embedding_dim if isinstance(words, FactorizedEmbedding) else None,
    )


def linear_at(layer: nn.Module, path: str) -> nn.Linear:
    """The linear projection at a path inside a layer."""
    module = layer.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{path} is a {type(module).__name__}, expected Linear")
    return module


def keep_outputs(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    """The layer with only these rows, ``kept`` of shape (K,)."""
    return _linear(linear.weight[kept], linear.bias[kept] if linear.bias is not None else None)


def keep_inputs(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    """The layer with only these columns, ``kept`` of shape (K,)."""
    return _linear(linear.weight[:, kept], linear.bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def narrow_feed_forward(layer: nn.Module, part: FeedForward, kept: Tensor) -> None:
    """Keep these neurons, ``kept`` of shape (K,), ascending; without any, the output bias is all that is left."""
    down = linear_at(layer, part.down)
    if len(kept) == 0:
        layer.set_submodule(part.up, nn.Identity())
        layer.set_submodule(part.down, BiasOnly(down.bias))
        return
    layer.set_submodule(part.up, keep_outputs(linear_at(layer, part.up), kept))
    layer.set_submodule(part.down, keep_inputs(down, kept))


def head_rows(kept: Sequence[int], width: int) -> Tensor:
    """The rows of a query, key or value projection that belong to these heads, (K · width,).

    >>> head_rows([0, 2], 2).tolist()
    [0, 1, 4, 5]
    """
    return (torch.tensor(list(kept), dtype=torch.long)[:, None] * width + torch.arange(width)).flatten()


def narrow_heads(model: Any, layer: nn.Module, kept: Sequence[int]) -> None:
    """Keep these heads of one layer; without any, the output bias is all that is left of its attention."""
    family = family_of(model.config.model_type)
    output = linear_at(layer, family.attention_output)
    if len(kept) == 0:
        inside = family.attention_output.startswith(f"{family.attention}.")
        if not inside:
            layer.set_submodule(family.attention_output, BiasOnly(output.bias))
        layer.set_submodule(family.attention, NoAttention(output.bias if inside else None))
        return
    width = linear_at(layer, family.query).out_features // heads_of(model, layer)
    rows = head_rows(kept, width)
    for path in (family.query, family.key, family.value):
        layer.set_submodule(path, keep_outputs(linear_at(layer, path), rows))
    layer.set_submodule(family.attention_output, keep_inputs(output, rows))
    _say_heads(family, layer, len(kept), width)


def _say_heads(family: Family, layer: nn.Module, heads: int, width: int) -> None:
    """The attention module reads its shape from attributes."""
    attention = layer.get_submodule(family.attention)
    for name in family.head_count:
        setattr(attention, name, heads)
    for name in family.head_width:
        setattr(attention, name, heads * width)


def matching(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the modules that one of the patterns describes."""
    names = [name for name, _ in model.named_modules()]
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def narrow_hidden(model: Any, kept: Tensor) -> None:
    """Keep these hidden dimensions, ``kept`` of shape (K,), ascending, in all that reads, writes or normalizes them."""
    residual = family_of(model.config.model_type).residual
    for name in matching(model, residual.tables):
        model.set_submodule(name, _narrow_table(model.get_submodule(name), kept))
    for name in matching(model, residual.writes):
        module = model.get_submodule(name)
        if isinstance(module, BiasOnly):
            model.set_submodule(name, BiasOnly(module.bias[kept]))
        elif isinstance(module, nn.Linear):
            model.set_submodule(name, keep_outputs(module, kept))
    for name in matching(model, residual.reads):
        module = model.get_submodule(name)
        if isinstance(module, nn.Linear):  # what read for a part that is gone is gone too, or passes its input on
            model.set_submodule(name, keep_inputs(module, kept))
    for name in matching(model, residual.norms):
        _narrow_norm(model.get_submodule(name), kept)
    for module in model.modules():
        if isinstance(module, NoAttention) and module.bias is not None:
            module.bias = nn.Parameter(module.bias[kept].detach().clone())


def _narrow_table(table: nn.Module, kept: Tensor) -> nn.Module:
    if isinstance(table, FactorizedEmbedding):
        return FactorizedEmbedding(table.table, keep_outputs(table.wide, kept))
    if not isinstance(table, nn.Embedding):
        raise TypeError(f"expected an embedding, got {type(table).__name__}")
    return _table(table.weight[:, kept], table.padding_idx)


def _table(weight: Tensor, padding: int | None) -> nn.Embedding:
    made = nn.Embedding(weight.shape[0], weight.shape[1], padding_idx=padding)
    made.weight = nn.Parameter(weight.detach().clone())
    return made


def _narrow_norm(norm: nn.Module, kept: Tensor) -> None:
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name)[kept].detach().clone()))
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (len(kept),)


def word_table(model: Any) -> Tensor:
    """The word embedding (V, E), multiplied out where it is factorized."""
    words = model.get_submodule(family_of(model.config.model_type).word_embedding)
    if isinstance(words, FactorizedEmbedding):
        return words.product().detach().float()
    table: Tensor = words.weight.detach().float()
    return table


def keep_words(model: Any, kept: Sequence[int], config: dict[str, Any]) -> None:
    """Keep these rows of the word embedding; `config` is the plain config with the new ids of special tokens."""
    path = family_of(model.config.model_type).word_embedding
    words, pad = model.get_submodule(path), config.get("pad_token_id")
    rows = torch.tensor(list(kept))
    if isinstance(words, FactorizedEmbedding):
        model.set_submodule(path, FactorizedEmbedding(_table(words.table.weight[rows], pad), words.wide))
    else:
        model.set_submodule(path, _table(words.weight[rows], pad))
    for name in config:
        if name == "vocab_size" or name.endswith("_token_id"):
            setattr(model.config, name, config[name])
    family = family_of(model.config.model_type)
    embeddings = model.get_submodule(family.embeddings)
    old = getattr(embeddings, "padding_idx", None)
    if old is None or pad is None:
        return
    embeddings.padding_idx = pad  # RoBERTa counts its positions from there, so the rows below it move as well
    table = model.get_submodule(family.position_embedding)
    model.set_submodule(family.position_embedding, _table(table.weight[old - pad :], pad))
    model.config.max_position_embeddings = table.num_embeddings - (old - pad)


def keep_positions(model: Any, tokens: int) -> None:
    """Keep the positions that an input of `tokens` tokens reaches; no more than there are."""
    family = family_of(model.config.model_type)
    table = model.get_submodule(family.position_embedding)
    embeddings = model.get_submodule(family.embeddings)
    padding = getattr(embeddings, "padding_idx", None)
    reserved = family.reserved_positions if padding is None else padding + 1
    rows = min(table.num_embeddings, tokens + reserved)
    model.set_submodule(family.position_embedding, _table(table.weight[:rows], table.padding_idx))
    model.config.max_position_embeddings = rows
    for name in ("position_ids", "token_type_ids"):
        if isinstance(getattr(embeddings, name, None), Tensor):
            embeddings.register_buffer(name, getattr(embeddings, name)[:, :rows], persistent=False)


def factorize_words(model: Any, size: int, counts: Tensor | None = None) -> None:
    """Replace the word embedding E (V, H) by a product A (V, size) · B (size, H), the nearest in least squares.

    With `counts` (V,) the squared error of a word counts as often as the word occurs, so that what is lost is least for
    the tokens of a text, not for those of a dictionary. The truncated singular value decomposition of diag(√counts) E
    gives that product (Eckart & Young 1936; ALBERT, Lan et al. 2020, trains one from the start). The mean of E would be
    the first direction, so that nothing is centered.
    """
    path = family_of(model.config.model_type).word_embedding
    table = model.get_submodule(path)
    if isinstance(table, FactorizedEmbedding):
        raise ValueError("the embedding is factorized already")
    weight = table.weight.detach().float()  # (V, H)
    size = min(size, weight.shape[1])
    weighted = weight if counts is None else weight * counts.to(weight)[:, None]
    _, _, directions = torch.linalg.svd(weight.T @ weighted)  # rows: right singular vectors of E, (H, H)
    wide = nn.Linear(size, weight.shape[1], bias=False)
    wide.weight = nn.Parameter(directions[:size].T.contiguous())  # (H, size)
    model.set_submodule(path, FactorizedEmbedding(_table(weight @ directions[:size].T, table.padding_idx), wide))


def record_shapes(model: Any) -> None:
    """Write the shape into the config, so that the checkpoint reloads."""
    plain = with_shape(model.config.to_dict(), model_shape(model))
    family = family_of(model.config.model_type)
    for name in (family.hidden_size, family.intermediate_size, family.num_attention_heads, family.num_hidden_layers):
        setattr(model.config, name, plain[name])
    if "edgetf" in plain:
        model.config.edgetf = plain["edgetf"]
    else:
        model.config.__dict__.pop("edgetf", None)


def apply_shapes(model: Any) -> None:
    """Give a freshly built model the shape that its config records; the weights come afterwards."""
    config = model.config.to_dict()
    wanted = shape_of(config)
    if wanted == plain_shape(config):
        return
    family, parts = family_of(model.config.model_type), feed_forwards_of(model)
    if wanted.embedding_size is not None:
        path = family.word_embedding
        table = model.get_submodule(path)
        first = nn.Embedding(table.num_embeddings, wanted.embedding_size, padding_idx=table.padding_idx)
        second = nn.Linear(wanted.embedding_size, table.embedding_dim, bias=False)
        model.set_submodule(path, FactorizedEmbedding(first, second))
    for layer, shape in zip(layers_of(model), wanted.layers, strict=True):
        if shape.heads and wanted.head_width * heads_of(model, layer) != linear_at(layer, family.query).out_features:
            raise ValueError(f"head_width {wanted.head_width} does not fit {heads_of(model, layer)} heads")
        if shape.heads != heads_of(model, layer):
            narrow_heads(model, layer, range(shape.heads))
        for part, neurons in zip(parts, shape.neurons, strict=True):
            if neurons != neurons_of(layer, part):
                narrow_feed_forward(layer, part, torch.arange(neurons))
    hidden = model.get_submodule(family.position_embedding).embedding_dim
    if wanted.hidden_size != hidden:
        narrow_hidden(model, torch.arange(wanted.hidden_size))
