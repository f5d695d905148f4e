"""How large a decoder is, by its config alone."""

from __future__ import annotations

from pathlib import Path

from edgetf.core.errors import needs
from edgetf.core.quiet import quiet
from edgetf.models.decoders.checkpoint import count_parameters
from edgetf.models.decoders.configs import open_config


def config_size(folder: Path) -> tuple[int, int]:
    """Weights, of a model that is built without memory for them, and tokens.

    Raises:
        ArtifactError: the config is of no known family, or does not fit together.
    """
    config = open_config(folder)
    with needs("compress"), quiet():
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    return count_parameters(model), int(config.vocab_size)
