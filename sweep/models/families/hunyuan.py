"""Hunyuan: layers may read the keys and values of the layer before them [1].

References:
    [1] Brandon et al., "Reducing transformer key-value cache size with cross-layer attention",
        arXiv 2405.12981, 2024.
"""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import Reader, read_decoder
from sweep.models.shared_cache import sharing
from sweep.models.traits import Traits


def hunyuan(traits: Traits) -> Reader:
    """Return the reader of a family with these traits, which may share caches between layers."""
    return lambda config: read_decoder(config, traits, lambda layers: _changed(config, layers))


def _changed(config: Config, layers: list[Block]) -> list[Block]:
    """Share the cache of every `cla_share_factor`-th layer with those up to the next."""
    if not config.flag("use_cla", False):
        config.passes_over("cla_share_factor")
        return layers
    factor = config.size("cla_share_factor")
    return [sharing(layer) if i % factor else layer for i, layer in enumerate(layers)]
