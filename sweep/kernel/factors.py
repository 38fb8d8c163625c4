"""Factors between the rooflines and a real engine, which a calibration fits."""

import dataclasses
from dataclasses import dataclass
from math import inf

import jax

from sweep.kernel.operators.cost import Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factors:
    """Factors between the rooflines and a real engine; the defaults are ideal.

    Shares multiply a rate or a bandwidth of the specification, which stays as published. A share
    above 1 means that the formula counts work the engine does not do.

    Attributes:
        software: Share of the rate at which everything runs. [1]
        gemm: Share of the dense matrix rate that a large matrix product reaches. [1]
        power_limit: Exponent with which matrix rates grow with the rated power per FLOP/s, since
            a hot accelerator lowers its clock. [1]
        gemm_half_rows: Rows at which a product reaches half of that share. [count]
        expert_half_rows: Rows that tiles of a grouped product of routed experts add to each
            expert, where these are few beside its own; they at most double its work. [count]
        expert_gemm: Share that products of routed experts reach of what others do. [1]
        attention: Share of the dense matrix rate that attention over a prompt reaches. [1]
        weight_bandwidth: Share of the memory bandwidth at which weights are read. [1]
        expert_bandwidth: Share that grouped products of routed experts reach of that. [1]
        kv_bandwidth: Share at which the KV cache is read and written. [1]
        kv_half_heads: KV heads of all sequences at which decode attention reads the cache at half
            of that share: few heads do not keep all of a GPU busy. [count]
        activation_bandwidth: Share at which activations are. [1]
        vector_attention: Time that decode attention takes on the vector units over that of heads
            of 128 elements at their full rate; 0 if it computes on the matrix units. [1]
        link_bandwidth: Share of the fabric's bandwidth that exchanges reach. [1]
        link_crowding: Exponent with which that share falls, as (GPUs / 2)^−link_crowding. [1]
        exchange_overhead_s: Time of an exchange between two GPUs beyond its hops and bytes. [s]
        exchange_growth: Exponent with which that time grows, as (GPUs / 2)^exchange_growth. [1]
        one_shot_s: Time beyond its bytes of a sum in which each GPU reads the buffers of all
            others at once; infinite where an engine has no such kernel. [s]
        unhidden: Share of the time of the resources that do not bind an operator which is not
            hidden behind the one that does: 0 for a roofline, 1 for their sum. [1]
        operator_overhead_s: Time to launch one operator of one layer. [s]
        step_overhead_s: Host time of one pass through the model. [s]
        sequence_overhead_s: Host time of a pass for each sequence that gets a token. [s]
        pipeline_sequence_overhead_s: The same for each pipeline stage after the first. [s]
        front_end_s: Time that a request of a server spends outside its iterations, until its first
            token is sent: receiving and tokenising it. [s]
        first_token_steps: Iterations for which a first token waits before it is sent, where hosts
            schedule ahead or send tokens in intervals. [count]
        expert_imbalance: Load of the busiest expert GPU over the mean, on top of the layout's. [1]
        pipeline_idle: Time that each further pipeline stage adds to a pass, over the pass. [1]
        ramp: Time that the ends of a run cost over what the closed form says. [1]
        dispatch_everywhere: Share of the way from sending a token to its experts' GPUs only to
            sending it to all: 0 for a routed exchange, 1 for gathering all tokens. [1]
        prefill_first: 1 where all waiting prompts are prefilled, in passes of their own, before
            any sequence decodes; 0 where they share passes with sequences that decode. [1]
        staggered: 1 where requests of clients start one at a time, 0 where those that end together
            start together. [1]
        reserved_output: Share of the output tokens of `reserved_osl` whose cache an engine reserves
            when it admits a request: half if the cache is filled to the average. [1]
        kept_context: Share of the tokens behind a window or chunk that the cache keeps. [1]
        logit_copies: Copies of the logits of a full batch that sampling keeps. [count]
        reserved_memory_bytes: Memory of each GPU that the engine keeps for itself, unless a share
            of the whole memory limits what it takes. [byte]
        library_memory_bytes: Memory of each GPU that drivers and kernels take outside of weights,
            activations and cache, whatever limits what the engine takes. [byte]
        exchange_memory_bytes: The same of the libraries that exchange between the GPUs of a stage:
            its half where two share each layer, (GPUs - 1) / GPUs of it where more do. [byte]
        total_memory_share: Share of the whole memory of each GPU that the engine takes by default
            for weights, activations and KV cache; 0 where it sizes its cache by what is free. [1]
        idle_power: Share of the rated power that a GPU draws while it waits. [1]
        bandwidth_power: Share of the rest that it draws while only its memory is busy. [1]
    """

    software: Scalar = 1.0
    gemm: Scalar = 1.0
    power_limit: Scalar = 0.0
    gemm_half_rows: Scalar = 0.0
    expert_half_rows: Scalar = 0.0
    expert_gemm: Scalar = 1.0
    attention: Scalar = 1.0
    weight_bandwidth: Scalar = 1.0
    expert_bandwidth: Scalar = 1.0
    kv_bandwidth: Scalar = 1.0
    kv_half_heads: Scalar = 0.0
    activation_bandwidth: Scalar = 1.0
    vector_attention: Scalar = 0.0
    link_bandwidth: Scalar = 1.0
    link_crowding: Scalar = 0.0
    exchange_overhead_s: Scalar = 0.0
    exchange_growth: Scalar = 0.0
    one_shot_s: Scalar = inf
    unhidden: Scalar = 0.0
    operator_overhead_s: Scalar = 0.0
    step_overhead_s: Scalar = 0.0
    sequence_overhead_s: Scalar = 0.0
    pipeline_sequence_overhead_s: Scalar = 0.0
    front_end_s: Scalar = 0.0
    first_token_steps: Scalar = 0.0
    expert_imbalance: Scalar = 1.0
    pipeline_idle: Scalar = 0.0
    ramp: Scalar = 1.0
    dispatch_everywhere: Scalar = 0.0
    prefill_first: Scalar = 0.0
    staggered: Scalar = 0.0
    reserved_output: Scalar = 1.0
    kept_context: Scalar = 0.0
    logit_copies: Scalar = 1.0
    reserved_memory_bytes: Scalar = 0.0
    library_memory_bytes: Scalar = 0.0
    exchange_memory_bytes: Scalar = 0.0
    total_memory_share: Scalar = 0.0
    idle_power: Scalar = 0.12
    bandwidth_power: Scalar = 0.4


IDEAL = Factors()
"""Every resource at its published rate, and nothing else spent."""
FACTORS = tuple(field.name for field in dataclasses.fields(Factors))
"""Names of the factors."""
SWITCHES = ("prefill_first", "staggered")
"""Factors that are 1 or 0 and choose between formulas."""
