"""Inputs of the kernel: pytrees of numbers, one per model, accelerator and precision.

They contain no checks, since JAX rebuilds them with placeholders inside; `specs/` has the checks.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sweep.errors import GridError
from sweep.kernel.acceptance import acceptance_of, passes, tokens_per_pass
from sweep.kernel.block import Block
from sweep.kernel.factors import IDEAL, Factors
from sweep.kernel.operators.cost import Scalar, is_nothing
from sweep.kernel.server import Server
from sweep.schema.axes import REPLICA_GPUS, STAGE_GPUS, gpus_of
from sweep.schema.terms import Part, Role

Numbers = Array | np.ndarray[Any, Any]
"""NumPy arrays while specifications are stacked, JAX arrays inside the kernel."""
SHARDING = ("split", "kv_heads", "copied", "experts")
"""Ways to distribute a weight: split over tp, split down to one KV head, copied, or split over all
GPUs of a stage as experts are."""
STAGES = ("before", "layers", "after")
"""Pipeline stages that hold a weight: the first, each its share, or the last."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        blocks: Embedding, layers and head in the order they run, without those that do not run.
        elements: Stored weights by stage, role and sharding. [count]
        layers: Transformer layers. [count]
        layer_parameters: Linear layers of the transformer layers by part, all experts. [count]
        active_layer_parameters: The same, the experts of one token. [count]
        draft: Layers that draft tokens, with their head; empty without speculative decoding.
        draft_elements: Stored weights of the draft by role and sharding, those beyond the
            model's. [count]
        uneven_kv_heads: Whether layers differ in their KV heads.
    """

    blocks: tuple[Block, ...]
    elements: Float[Numbers, "*grid stage role sharding"]
    layers: Scalar
    layer_parameters: Float[Numbers, "*grid part"]
    active_layer_parameters: Float[Numbers, "*grid part"]
    draft: tuple[Block, ...] = ()
    draft_elements: Float[Numbers, "*grid role sharding"] | None = None
    uneven_kv_heads: bool = field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hardware:
    """One accelerator.

    Attributes:
        peaks: Dense matrix rate of each of `dtypes.PEAK_DTYPES`, 0 where there is none. [FLOP/s]
        vector_rate: Element-wise rate, infinite where unknown. [FLOP/s]
        special_rate: Special-function rate, infinite where unknown. [op/s]
        memory: Device memory that programs can use. [byte]
        bandwidth: Device-memory bandwidth. [byte/s]
        cache: On-chip cache, infinite where unknown. [byte]
        fabric_bandwidth: Bandwidth to other GPUs in one direction over the link, PCIe and the
            network, infinite where unknown. [byte/s]
        fabric_latency: Time of one hop over each of them. [s]
        fabric_reach: GPUs that the link and that PCIe join. [count]
        power: Rated power, NaN where unknown. [W]
        power_headroom: Rated power for the rate in 16 bits, over
            `kernel_inputs.TYPICAL_POWER`; 1 where unknown. [1]
    """

    peaks: Float[Numbers, "*grid dtype"]
    vector_rate: Scalar
    special_rate: Scalar
    memory: Scalar
    bandwidth: Scalar
    cache: Scalar
    fabric_bandwidth: Float[Numbers, "*grid fabric"]
    fabric_latency: Float[Numbers, "*grid fabric"]
    fabric_reach: Float[Numbers, "*grid reach"]
    power: Scalar
    power_headroom: Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """Storage and compute type of the linear layers of one part.

    Attributes:
        weight: Storage of one weight, scales included. [byte]
        activation: Storage of one input element. [byte]
        group: Weights of one row that share a scale, 0 if they are not grouped. [count]
        peak: Index into `Hardware.peaks` of the type they compute in.
    """

    weight: Scalar
    activation: Scalar
    group: Scalar
    peak: Int[Numbers, "*grid"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Precision:
    """One precision recipe.

    Attributes:
        attention: Projections around attention.
        ffn: The feed-forward that every token takes.
        experts: Routed experts.
        head: The head.
        hidden: Storage of one element of the residual stream, of outputs, of other weights. [byte]
        hidden_peak: Index into `Hardware.peaks` for attention over the cache and other weights.
        eight_bit_peak: Index into `Hardware.peaks` of FP8, in which an indexer scores keys.
        kv: Storage of one element of the KV cache. [byte]
    """

    attention: Linear
    ffn: Linear
    experts: Linear
    head: Linear
    hidden: Scalar
    hidden_peak: Int[Numbers, "*grid"]
    eight_bit_peak: Int[Numbers, "*grid"]
    kv: Scalar

    def part(self, name: Part) -> Linear:
        """Storage and compute type of the linear layers of part `name`."""
        found: Linear = getattr(self, name)
        return found

    def peak(self, role: Role) -> Int[Numbers, "*grid"]:
        """Index into `Hardware.peaks` of the type that matrices of `role` compute in."""
        return self.hidden_peak if role == "hidden" else self.part(role).peak


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Layout:
    """Distribution of one replica over GPUs.

    Attributes:
        tp: GPUs that share each layer. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that experts are spread over whole, of the tp · dp_attention of a stage. [count]
        dp_attention: Groups of tp GPUs that run attention for their own sequences. [count]
        expert_imbalance: Load of the busiest expert GPU over the mean. [1]
    """

    tp: Scalar = 1.0
    pp: Scalar = 1.0
    ep: Scalar = 1.0
    dp_attention: Scalar = 1.0
    expert_imbalance: Scalar = 1.0

    @property
    def stage_gpus(self) -> Scalar:
        """GPUs of one pipeline stage, which share its experts. [count]"""
        found: Scalar = gpus_of(vars(self), STAGE_GPUS)
        return found

    @property
    def gpus(self) -> Scalar:
        """GPUs of one replica. [count]"""
        found: Scalar = gpus_of(vars(self), REPLICA_GPUS)
        return found


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """One cell of a grid, or one observation; an axis that is absent is `None`.

    Attributes:
        model: What is served.
        hardware: On which accelerator.
        precision: In which storage types.
        tp: GPUs that share each layer. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that experts are spread over whole. [count]
        dp_attention: Groups that run attention for their own sequences. [count]
        dp: Replicas of the whole deployment. [count]
        expert_imbalance: Load of the busiest expert GPU over the mean. [1]
        batch_size: Sequences in the batch of one replica. [count]
        kv_cache_fraction: See `Server`. [1]
        gpu_memory_utilization: See `Server`. [1]
        mem_fraction_static: See `Server`. [1]
        kept_context: See `Server`. [1]
        reserved_osl: See `Server`. [1]
        max_batch_size: See `Server`. [count]
        max_num_tokens: See `Server`. [count]
        scheduler: See `Server`.
        num_requests: Requests of a run of one replica, all sent at once; without end if not
            given. [count]
        concurrency: Requests that clients keep open at one replica; as many as fit if not given
            or infinite. [count]
        request_rate: Requests that arrive at one replica, instead of clients that wait for
            answers. [s-1]
        burstiness: Shape of the gamma distribution of the gaps between arrivals: 1 if not given,
            a Poisson process; below, arrivals come in bursts. [1]
        max_ttft: Limit of the mean time to first token, under which the highest rate of arrivals
            is found; none if not given. [s]
        max_ttft_p99: The same of what 99 % of the requests stay below. [s]
        max_tpot: The same of the mean time per output token. [s]
        max_tpot_p99: The same of what 99 % of the tokens stay below. [s]
        prefix_hit_rate: Share of the prompt tokens found in the cache. [1]
        shared_prefix_tokens: Tokens that all prompts begin with, kept once in each attention
            group. [count]
        isl_cv: Coefficient of variation of the input tokens of requests; 0 if not given. [1]
        osl_cv: The same of the output tokens. [1]
        batch_wait: Iterations for which prompts wait at most for others to start with; none if not
            given. [count]
        stream_interval: Tokens of a request after which the first of them are sent; one if not
            given. [count]
        poll_interval: Iterations between two looks of the scheduler for new requests; every one if
            not given. [count]
        draft_tokens: Tokens drafted for each pass of speculative decoding. [count]
        acceptance_rate: Probability that a drafted token is accepted. [1]
        acceptance_length: Tokens that a pass with drafts yields, in place of that. [count]
        guidance_passes: Passes of each image in a denoising step; one if not given. [count]
        denoising_steps: Denoising steps of each image. [count]
        context_len: Tokens each sequence attends to in one decode step. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        image_size: Side of each image. [pixel]
        factors: Shares of the published rates, and fixed costs, of a real engine.
    """

    model: Model
    hardware: Hardware
    precision: Precision
    tp: Scalar = 1.0
    pp: Scalar | None = None
    ep: Scalar | None = None
    dp_attention: Scalar | None = None
    dp: Scalar | None = None
    expert_imbalance: Scalar | None = None
    batch_size: Scalar | None = None
    kv_cache_fraction: Scalar | None = None
    gpu_memory_utilization: Scalar | None = None
    mem_fraction_static: Scalar | None = None
    kept_context: Scalar | None = None
    reserved_osl: Scalar | None = None
    max_batch_size: Scalar | None = None
    max_num_tokens: Scalar | None = None
    scheduler: Scalar | None = None
    num_requests: Scalar | None = None
    concurrency: Scalar | None = None
    request_rate: Scalar | None = None
    burstiness: Scalar | None = None
    max_ttft: Scalar | None = None
    max_ttft_p99: Scalar | None = None
    max_tpot: Scalar | None = None
    max_tpot_p99: Scalar | None = None
    prefix_hit_rate: Scalar | None = None
    shared_prefix_tokens: Scalar | None = None
    isl_cv: Scalar | None = None
    osl_cv: Scalar | None = None
    batch_wait: Scalar | None = None
    poll_interval: Scalar | None = None
    stream_interval: Scalar | None = None
    draft_tokens: Scalar | None = None
    acceptance_rate: Scalar | None = None
    acceptance_length: Scalar | None = None
    guidance_passes: Scalar | None = None
    denoising_steps: Scalar | None = None
    context_len: Scalar | None = None
    isl: Scalar | None = None
    osl: Scalar | None = None
    image_size: Scalar | None = None
    factors: Factors = IDEAL

    @property
    def layout(self) -> Layout:
        """The layout of one replica."""
        return Layout(
            tp=self.tp,
            pp=_one_if_absent(self.pp),
            ep=_one_if_absent(self.ep),
            dp_attention=_one_if_absent(self.dp_attention),
            expert_imbalance=_one_if_absent(self.expert_imbalance),
        )

    @property
    def of_a_pass(self) -> "Point":
        """The point without what the time of one pass does not depend on, such as a load."""
        kept = ("tp", "pp", "ep", "dp_attention", "expert_imbalance", "batch_size", "isl", "osl")
        numbers = {name: getattr(self, name) for name in kept}
        return Point(self.model, self.hardware, self.precision, **numbers, factors=self.factors)

    @property
    def server(self) -> Server:
        """The server's settings."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(Server)}
        return Server(**{name: value for name, value in given.items() if value is not None})

    @property
    def replicas(self) -> Scalar:
        """Replicas of the whole deployment. [count]"""
        return _one_if_absent(self.dp)

    @property
    def group_sequences(self) -> Scalar:
        """Sequences of the batch that each attention group serves, one at least. [count]"""
        return jnp.maximum(self.length("batch_size") / self.layout.dp_attention, 1.0)

    @property
    def microbatches(self) -> Scalar:
        """Parts the batch is cut into so that all pipeline stages work at once. [count]"""
        return jnp.minimum(self.layout.pp, self.group_sequences)

    @property
    def image_tokens(self) -> Scalar:
        """Tokens of one image: patches of `token_pixels` squared. [count]"""
        side = self.length("image_size") / self.model.blocks[0].token_pixels
        return side * side

    @property
    def passes(self) -> Scalar:
        """Passes of each image in one denoising step. [count]"""
        return _one_if_absent(self.guidance_passes)

    @property
    def cached_tokens(self) -> Scalar:
        """Tokens of each prompt found in the cache, all but one at most. [count]

        A prefix that all prompts share is found, whatever the share of hits. Its last token is
        always computed, since it yields the first output token.
        """
        if self.prefix_hit_rate is None and self.shared_prefix_tokens is None:
            return 0.0
        isl = self.length("isl")
        found = 0.0 if self.prefix_hit_rate is None else self.prefix_hit_rate * isl
        shared = 0.0 if self.shared_prefix_tokens is None else self.shared_prefix_tokens
        return jnp.minimum(jnp.maximum(found, shared), isl - 1)

    @property
    def new_tokens(self) -> Scalar:
        """Tokens of each prompt that are not found in the cache. [count]"""
        isl = self.length("isl")
        return isl if is_nothing(self.cached_tokens) else isl - self.cached_tokens

    @property
    def pass_tokens(self) -> Scalar:
        """Tokens of each sequence in a decode pass: the newest, and those drafted. [count]"""
        return 1.0 if self.draft_tokens is None else 1.0 + self.draft_tokens

    @property
    def tokens_per_pass(self) -> Scalar:
        """Tokens that a decode pass yields for each sequence, in expectation. [count]"""
        if self.draft_tokens is None:
            return 1.0
        return tokens_per_pass(self.draft_tokens, self.accepted)

    @property
    def decode_passes(self) -> Scalar:
        """Decode passes of each request after its first token, in expectation. [count]"""
        steps = self.length("osl") - 1
        if self.draft_tokens is None:
            return steps
        return passes(steps, self.draft_tokens, self.accepted)

    @property
    def accepted(self) -> Scalar:
        """Probability that a drafted token is accepted, as stated or from the length. [1]"""
        if self.acceptance_length is None:
            return self.length("acceptance_rate")
        return acceptance_of(self.length("draft_tokens"), self.acceptance_length)

    def if_drafting(self, value: Scalar) -> Scalar:
        """The value where tokens are drafted, 0 where none are."""
        if self.draft_tokens is None:
            return 0.0
        return jnp.where(self.draft_tokens > 0, value, 0.0)

    def length(self, axis: str) -> Scalar:
        """The value of an axis that not every grid has. [count]

        Raises:
            GridError: The grid has no such axis.
        """
        value: Scalar | None = getattr(self, axis)
        if value is None:
            raise GridError(f"the grid has no axis {axis}")
        return value


def _one_if_absent(value: Scalar | None) -> Scalar:
    return 1.0 if value is None else value
