"""Every family by its `model_type`: its traits, or the reader of a family that is different.

Structure and class defaults are those of the published model code, which
`benchmarks/parameter_oracle.py` compares with.
"""

from dataclasses import replace

from sweep.models.decoder import Reader, decoder
from sweep.models.families.chatglm import read_chatglm
from sweep.models.families.deepseek_v4 import read_deepseek_v4
from sweep.models.families.deepseek_v32 import read_deepseek_v32, read_glm_moe_dsa
from sweep.models.families.dit import read_dit
from sweep.models.families.falcon import read_falcon
from sweep.models.families.gemma3n import read_gemma3n
from sweep.models.families.gemma4 import read_gemma4
from sweep.models.families.hunyuan import hunyuan
from sweep.models.families.llama4 import read_llama4
from sweep.models.families.mimo_v2 import read_mimo_v2
from sweep.models.families.minimax_m3 import read_minimax_m3
from sweep.models.families.mllama import read_mllama
from sweep.models.families.nemotron_nas import read_nemotron_nas
from sweep.models.families.openelm import read_openelm
from sweep.models.families.opt import read_opt
from sweep.models.families.step3 import read_step3
from sweep.models.state_families import STATE_FAMILIES
from sweep.models.traits import (
    ALWAYS,
    NEVER,
    Biases,
    Experts,
    RoutingMethod,
    Traits,
    Windows,
    off_by,
    on_by,
)

ATTENTION = on_by("attention_bias")
ATTENTION_UNLESS = off_by("attention_bias")
IN_ATTENTION = Biases(qkv=ATTENTION, output=ATTENTION)
IN_BOTH = Biases(qkv=ATTENTION, output=ATTENTION, ffn=on_by("mlp_bias"))
EVERYWHERE = Biases(qkv=ALWAYS, output=ALWAYS, ffn=ALWAYS)
LATE = Windows(where="late")
ALL = Windows(where="all")
LISTED = Windows(where="listed")
HEADS_OF_128 = {"head_dim": 128}
LLAMA_SIZES = {
    "hidden_size": 4096,
    "ffn_size": 11_008,
    "layers": 32,
    "heads": 32,
    "vocab_size": 32_000,
}
MISTRAL_SIZES = {**LLAMA_SIZES, "ffn_size": 14_336}
GEMMA_SIZES = {"hidden_size": 2304, "ffn_size": 9216, "layers": 26, "heads": 8, "kv_heads": 4}

LLAMA = Traits(
    biases=replace(IN_BOTH, output=on_by("attention_out_bias", "attention_bias")),
    nested=LLAMA_SIZES,
)
MISTRAL = Traits(windows=ALL, defaults={"kv_heads": 8}, nested=MISTRAL_SIZES)
QWEN2 = Traits(biases=Biases(qkv=off_by("qkv_bias")), windows=LATE)
QWEN3 = Traits(
    biases=IN_ATTENTION, qk_norm=off_by("use_qk_norm"), windows=LATE, defaults=HEADS_OF_128
)
QWEN3_MOE = replace(QWEN3, experts=Experts(), defaults={})
GEMMA = Traits(tied=True, defaults={"head_dim": 256}, biases=IN_ATTENTION)
GEMMA2 = replace(GEMMA, norm_place="around", windows=Windows(where="pattern", size=4096, pattern=2))
GEMMA3 = replace(
    GEMMA2,
    qk_norm=ALWAYS,
    windows=Windows(where="pattern", size=1024, pattern=6),
    defaults={"head_dim": 256, "vocab_size": 262_208},
    nested=GEMMA_SIZES,
)
GPT2 = Traits(
    norm="layer", gated=False, positions="learned", tied=True, ffn_ratio=4, biases=EVERYWHERE
)
GPTJ = Traits(
    norm="layer",
    parallel=ALWAYS,
    gated=False,
    biases=Biases(ffn=ALWAYS, head=ALWAYS),
    ffn_ratio=4,
)
PHI = Traits(
    norm="layer",
    parallel=ALWAYS,
    gated=False,
    biases=replace(EVERYWHERE, head=ALWAYS),
    qk_norm=on_by("qk_layernorm"),
    rotary_share=0.5,
    ffn_ratio=4,
)
SHARED = Experts(shared=True, shared_count=1)
CORRECTED = replace(SHARED, router_bias=ALWAYS)
"""Experts under a router whose scores a stored bias corrects."""
GLM4_MOE = Traits(
    biases=Biases(qkv=ATTENTION),
    qk_norm=on_by("use_qk_norm"),
    rotary_share=0.5,
    experts=CORRECTED,
)
DEEPSEEK_V2 = Traits(latent=True, experts=replace(SHARED, router_bias=RoutingMethod()))
DEEPSEEK_V3 = Traits(latent=True, experts=CORRECTED)
OLMO2 = Traits(norm_place="after", qk_norm=ALWAYS, qk_norm_over="width", biases=IN_ATTENTION)
COHERE = Traits(
    norm="layer_without_shift",
    parallel=ALWAYS,
    biases=IN_ATTENTION,
    qk_norm=on_by("use_qk_norm"),
    qk_norm_over="width",
    tied=True,
)
EXAONE4 = Traits(
    norm_place="after",
    qk_norm=ALWAYS,
    unrotated="full",
    windows=Windows(where="pattern", pattern=4),
)
ERNIE = Traits(
    biases=Biases(qkv=on_by("use_bias"), output=on_by("use_bias"), ffn=on_by("use_bias")),
    tied=True,
    defaults=HEADS_OF_128,
)
BAILING = Traits(
    biases=Biases(qkv=on_by("use_qkv_bias"), output=on_by("use_bias"), ffn=on_by("use_bias")),
    experts=Experts(shared=True, router_bias=on_by("routing_bias")),
)
GRANITE = Traits(biases=IN_BOTH)
HUNYUAN = Traits(biases=IN_BOTH, qk_norm=off_by("use_qk_norm"))
INTERNLM = Traits(biases=Biases(qkv=off_by("bias"), output=off_by("bias")))

FAMILIES: dict[str, Reader] = {
    "afmoe": decoder(
        Traits(
            biases=IN_ATTENTION,
            norm_place="around",
            qk_norm=ALWAYS,
            gate="width",
            unrotated="full",
            windows=Windows(
                where="pattern", size=1024, pattern=4, pattern_keys=("global_attn_every_n_layers",)
            ),
            experts=Experts(shared=True, router_bias=ALWAYS, dense_first=1),
            defaults=HEADS_OF_128,
        )
    ),
    "apertus": decoder(
        Traits(biases=IN_ATTENTION, qk_norm=off_by("qk_norm"), gated=False, learned_activation=True)
    ),
    "arcee": decoder(Traits(biases=IN_BOTH, gated=False)),
    "baichuan": decoder(Traits()),
    "bailing_moe": decoder(BAILING),
    "bailing_moe_v2": decoder(replace(BAILING, qk_norm=on_by("use_qk_norm"), rotary_share=0.5)),
    "bitnet": decoder(Traits(biases=IN_ATTENTION, inner_norms=True)),
    "bloom": decoder(replace(GPT2, positions="none", embedding_norm=True)),
    "chatglm": read_chatglm,
    "codegen": decoder(GPTJ),
    "cohere": decoder(COHERE),
    "cohere2": decoder(
        replace(
            COHERE,
            qk_norm=NEVER,
            unrotated="full",
            windows=Windows(where="pattern", size=4096, pattern=4),
            defaults=HEADS_OF_128,
        )
    ),
    "cwm": decoder(replace(LLAMA, windows=LISTED, defaults=HEADS_OF_128)),
    "dbrx": decoder(
        Traits(
            norm="layer_without_shift",
            experts=Experts(width="ffn"),
            sections=("attn_config", "ffn_config"),
        )
    ),
    "deepseek": decoder(Traits(biases=IN_ATTENTION, experts=replace(SHARED, optional=True))),
    "deepseek_v2": decoder(DEEPSEEK_V2),
    "deepseek_v3": decoder(DEEPSEEK_V3),
    "deepseek_v32": read_deepseek_v32,
    "deepseek_v4": read_deepseek_v4,
    "dit": read_dit,
    "dots1": decoder(
        Traits(
            biases=IN_ATTENTION,
            qk_norm=ALWAYS,
            windows=LATE,
            experts=Experts(shared=True, router_bias=ALWAYS),
        )
    ),
    "ernie4_5": decoder(ERNIE),
    "ernie4_5_moe": decoder(
        replace(
            ERNIE,
            experts=Experts(shared=True, shared_count=2, router_bias=ALWAYS, dense_first=1),
            defaults={},
        )
    ),
    "exaone": decoder(LLAMA),
    "exaone4": decoder(EXAONE4),
    "exaone_moe": decoder(
        replace(EXAONE4, norm_place="before", experts=replace(CORRECTED, dense_first=1))
    ),
    "falcon": read_falcon,
    "gemma": decoder(GEMMA),
    "gemma2": decoder(GEMMA2),
    "gemma3": decoder(GEMMA3),
    "gemma3_text": decoder(GEMMA3),
    "gemma3n_text": read_gemma3n,
    "gemma4_text": read_gemma4,
    "glm": decoder(Traits(biases=Biases(qkv=ATTENTION_UNLESS), rotary_share=0.5)),
    "glm4": decoder(
        Traits(biases=Biases(qkv=ATTENTION_UNLESS), norm_place="around", rotary_share=0.5)
    ),
    "glm4_moe": decoder(GLM4_MOE),
    "glm_moe_dsa": read_glm_moe_dsa,
    "glm4v_moe_text": decoder(replace(GLM4_MOE, biases=Biases(qkv=ATTENTION_UNLESS))),
    "gpt2": decoder(GPT2),
    "gpt_bigcode": decoder(replace(GPT2, one_kv_head=off_by("multi_query"))),
    "gpt_neox": decoder(
        Traits(
            norm="layer",
            parallel=off_by("use_parallel_residual"),
            parallel_norms=2,
            gated=False,
            biases=Biases(qkv=ATTENTION_UNLESS, output=ATTENTION_UNLESS, ffn=ALWAYS),
            rotary_share=0.25,
        )
    ),
    "gpt_oss": decoder(
        Traits(
            biases=Biases(qkv=ATTENTION_UNLESS, output=ATTENTION_UNLESS),
            sinks="all",
            windows=Windows(where="pattern", pattern=2, required=True),
            experts=Experts(width="ffn", bias=True),
        )
    ),
    "gptj": decoder(GPTJ),
    "granite": decoder(GRANITE),
    "granite_swa": decoder(replace(GRANITE, sinks="all", windows=LISTED, tied=True)),
    "granitemoe": decoder(Traits(biases=IN_ATTENTION, experts=Experts(width="ffn", shared=True))),
    "grok-1": decoder(Traits(norm_place="around", experts=Experts(width="ffn"), tied=True)),
    "hunyuan_v1_dense": hunyuan(HUNYUAN),
    "hunyuan_v1_moe": hunyuan(replace(HUNYUAN, experts=replace(SHARED, width="either"))),
    "hy_v3": decoder(
        Traits(
            biases=IN_ATTENTION,
            qk_norm=ALWAYS,
            experts=replace(CORRECTED, dense_first=1),
            defaults=HEADS_OF_128,
        )
    ),
    "internlm": decoder(INTERNLM),
    "internlm2": decoder(INTERNLM),
    "internlm3": decoder(
        Traits(biases=Biases(qkv=on_by("qkv_bias"), output=on_by("bias"), ffn=on_by("bias")))
    ),
    "jais2": decoder(
        Traits(
            norm="layer",
            gated=False,
            biases=Biases(qkv=ATTENTION_UNLESS, output=ATTENTION_UNLESS, ffn=off_by("mlp_bias")),
        )
    ),
    "kimi_k2": decoder(DEEPSEEK_V3),
    "llama": decoder(LLAMA),
    "llama4": read_llama4,
    "llama4_text": read_llama4,
    "mellum": decoder(replace(QWEN3_MOE, windows=LISTED, defaults=HEADS_OF_128)),
    "mimo": decoder(Traits(biases=Biases(qkv=ATTENTION_UNLESS), windows=LATE)),
    "mimo_v2_flash": read_mimo_v2,
    "minicpm": decoder(replace(LLAMA, tied=True, experts=Experts(width="ffn", optional=True))),
    "mllama": read_mllama,
    "minicpm3": decoder(Traits(latent=True, tied=True, defaults={"v_head_dim": 64})),
    "minimax_m2": decoder(
        Traits(
            qk_norm=off_by("use_qk_norm"),
            qk_norm_over="width",
            windows=LISTED,
            experts=Experts(width="ffn", router_bias=off_by("routing_bias")),
            defaults=HEADS_OF_128,
        )
    ),
    "minimax_m3": read_minimax_m3,
    "mistral": decoder(MISTRAL),
    "mixtral": decoder(replace(MISTRAL, experts=Experts(width="ffn"))),
    "mpt": decoder(
        Traits(
            norm="layer_without_shift",
            gated=False,
            positions="none",
            tied=True,
            ffn_ratio=4,
            sections=("attn_config",),
        )
    ),
    "nemotron": decoder(Traits(norm="layer", biases=IN_BOTH, gated=False, rotary_share=0.5)),
    "nemotron-nas": read_nemotron_nas,
    "olmo": decoder(Traits(norm="bare", biases=IN_ATTENTION)),
    "olmo2": decoder(OLMO2),
    "olmo3": decoder(replace(OLMO2, windows=Windows(where="pattern", size=4096, pattern=4))),
    "olmoe": decoder(replace(OLMO2, norm_place="before", experts=Experts(width="ffn"))),
    "openelm": read_openelm,
    "opt": read_opt,
    "persimmon": decoder(
        replace(PHI, biases=EVERYWHERE, parallel=NEVER, qk_norm=off_by("qk_layernorm"))
    ),
    "phi": decoder(PHI),
    "phi3": decoder(Traits(windows=ALL)),
    "phimoe": decoder(
        Traits(
            norm="layer",
            biases=replace(IN_ATTENTION, head=on_by("lm_head_bias")),
            windows=ALL,
            experts=Experts(width="ffn"),
        )
    ),
    "qwen": decoder(Traits(biases=Biases(qkv=ALWAYS), ffn_divisor=2)),
    "qwen2": decoder(QWEN2),
    "qwen2_moe": decoder(replace(QWEN2, experts=Experts(shared=True, shared_gate=True))),
    "qwen3": decoder(QWEN3),
    "qwen3_moe": decoder(QWEN3_MOE),
    "seed_oss": decoder(
        Traits(
            biases=Biases(
                qkv=ATTENTION_UNLESS, output=on_by("attention_out_bias"), ffn=on_by("mlp_bias")
            ),
            defaults=HEADS_OF_128,
        )
    ),
    "smollm3": decoder(replace(LLAMA, unrotated="listed", windows=LATE, tied=True, nested={})),
    "solar_open": decoder(
        Traits(biases=Biases(qkv=ATTENTION), experts=CORRECTED, defaults=HEADS_OF_128)
    ),
    "stablelm": decoder(
        Traits(
            norm="layer",
            parallel=on_by("use_parallel_residual"),
            biases=Biases(qkv=on_by("use_qkv_bias")),
            qk_norm=on_by("qk_layernorm"),
            qk_norm_over="width",
            rotary_share=0.25,
        )
    ),
    "starcoder2": decoder(
        Traits(
            norm="layer",
            gated=False,
            biases=Biases(
                qkv=off_by("use_bias"), output=off_by("use_bias"), ffn=off_by("use_bias")
            ),
            windows=ALL,
            tied=True,
        )
    ),
    "step3p5": read_step3,
    "vaultgemma": decoder(replace(GEMMA2, norm_place="before")),
    "Yi": decoder(LLAMA),
    "youtu": decoder(Traits(latent=True, tied=True)),
    **STATE_FAMILIES,
}
