"""DiT: a transformer over the patches of an image's latents, conditioned by adaptive norms."""

from sweep.kernel.block import Block
from sweep.models.config import Config

BEFORE = (
    "patch_embedding",
    "image_position_embedding",
    "denoising_step_embedding",
    "denoising_step_projection",
    "class_embedding",
)
LAYER = (
    "modulation",
    "modulated_attention_norm",
    "qkv_projection",
    "image_attention",
    "output_projection",
    "attention_all_reduce",
    "gated_attention_residual",
    "modulated_ffn_norm",
    "up_projection",
    "activation",
    "down_projection",
    "ffn_all_reduce",
    "gated_ffn_residual",
)
AFTER = ("pipeline_send", "final_modulation", "modulated_final_norm", "patch_projection")
LATENT_PIXELS = 8
"""Side of the square of pixels that one latent of the autoencoder covers. [pixel]"""
NO_CLASS = 1
"""Rows of the class table for an image of no class, which guidance needs."""
OF_THE_RUN = (
    *("class_dropout_prob", "num_attention_layers", "dropout", "norm_num_groups"),
    *("norm_elementwise_affine", "upcast_attention", "only_cross_attention"),
)


def read_dit(config: Config) -> tuple[Block, ...]:
    """Read a DiT by the keys of its first release or by those of diffusers.

    Raises:
        SpecError: A key is missing or wrong, or the transformer is no DiT.
    """
    _check_kind(config)
    heads = config.size("heads")
    hidden_size = _hidden_size(config, heads)
    patch = config.size("patch_size", default=2)
    channels = config.size("in_channels", default=4)
    classes = config.size("num_classes", "num_embeds_ada_norm", default=1000)
    _check_image(config, patch)
    bias = int(config.flag("attention_bias", True))
    config.passes_over(*OF_THE_RUN)
    return (
        Block(
            BEFORE,
            in_transformer=False,
            hidden_size=hidden_size,
            vocab_size=classes + NO_CLASS,
            patch_values=channels * patch * patch,
            token_pixels=LATENT_PIXELS * patch,
        ),
        Block(
            LAYER,
            count=config.size("depth" if "depth" in config else "layers"),
            hidden_size=hidden_size,
            heads=heads,
            kv_heads=heads,
            head_dim=hidden_size // heads,
            qkv_bias=bias,
            output_bias=1,
            ffn_size=_ffn_size(config, hidden_size),
            ffn_bias=1,
        ),
        Block(
            AFTER,
            in_transformer=False,
            hidden_size=hidden_size,
            denoised_values=_channels_out(config, channels) * patch * patch,
        ),
    )


def _check_kind(config: Config) -> None:
    kind = config.get("norm_type", "ada_norm_zero")
    if kind != "ada_norm_zero":
        raise config.error("norm_type", f"{kind!r:.40}: only 'ada_norm_zero', that of DiT, is read")
    for key in ("cross_attention_dim", "caption_channels", "num_vector_embeds"):
        if config.get(key) is not None:
            raise config.error(key, "a part that a DiT does not have")
    activation = config.get("activation_fn", "gelu-approximate")
    if activation != "gelu-approximate":
        raise config.error("activation_fn", f"{activation!r:.40}: only 'gelu-approximate' is read")


def _hidden_size(config: Config, heads: int) -> int:
    if "attention_head_dim" in config:
        found = heads * config.size("attention_head_dim")
        if "hidden_size" in config and config.size("hidden_size") != found:
            raise config.error("hidden_size", f"must be {found}, heads times attention_head_dim")
        return found
    hidden_size = config.size("hidden_size")
    if hidden_size % heads:
        raise config.error("hidden_size", f"{heads} heads do not divide {hidden_size}")
    return hidden_size


def _ffn_size(config: Config, hidden_size: int) -> int:
    ratio = config.get("mlp_ratio", 4)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise config.error("mlp_ratio", f"must be a number above 0 and up to 64, not {ratio!r:.40}")
    return max(int(hidden_size * ratio), 1)


def _check_image(config: Config, patch: int) -> None:
    """Check that patches divide the latents of the image the model was trained on."""
    for key, cell in (
        ("input_size", patch),
        ("sample_size", patch),
        ("image_size", LATENT_PIXELS * patch),
    ):
        if key in config and config.size(key) % cell:
            raise config.error(key, f"{config.get(key)} is no multiple of {cell}")


def _channels_out(config: Config, channels: int) -> int:
    """Return the channels that leave the model: with its variance, twice those that enter."""
    if "out_channels" in config or "attention_head_dim" in config:
        return config.size("out_channels", default=channels)
    return 2 * channels if config.flag("learn_sigma", True) else channels
