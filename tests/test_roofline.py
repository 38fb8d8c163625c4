"""One operator on one machine: which resource needs longest, and how long."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import pytest
from factories import PEAKS, hardware, precision, shipped

from sweep.evaluation.kernel_inputs import hardware_params, precision_params
from sweep.kernel.operators.cost import Cost
from sweep.kernel.roofline import Seconds, fabric, in_turn, peak_rate, resource_seconds
from sweep.schema.terms import BOUNDS, ROLES
from sweep.specs.dtypes import PEAK_DTYPES

MACHINE = hardware_params(
    hardware(
        vector_flops_per_s=10.0,
        special_function_ops_per_s=5.0,
        memory_bandwidth_bytes_per_s=8.0,
        link_bandwidth_bytes_per_s=2.0,
    )
)
WORK = Cost(
    tensor_flops=600.0,  # 6 s at 100 a second
    vector_flops=50.0,  # 5 s
    special_ops=20.0,  # 4 s
    weight_bytes=8.0,  # 7 s with the two below
    kv_bytes=16.0,
    activation_bytes=32.0,
    network_bytes=16.0,  # 8 s
    network_span=2.0,
)


def seconds(**changes: float) -> Seconds:
    return resource_seconds(dataclasses.replace(WORK, **changes), 100.0, MACHINE)


def test_each_resource_works_at_its_own_rate() -> None:
    found = seconds()
    assert (found.memory, found.compute, found.communication) == (7.0, 6.0, 8.0)


@pytest.mark.parametrize(
    ("changes", "compute"),
    [
        ({}, 6.0),
        ({"tensor_flops": 0.0}, 5.0),
        ({"tensor_flops": 0.0, "vector_flops": 0.0}, 4.0),
        ({"special_ops": 100.0}, 20.0),
    ],
)
def test_units_of_a_processor_work_side_by_side(changes: dict[str, float], compute: float) -> None:
    assert seconds(**changes).compute == compute


@pytest.mark.parametrize(
    ("times", "latency", "bound"),
    [
        ((3.0, 2.0, 1.0), 3.0, "memory"),
        ((1.0, 3.0, 2.0), 3.0, "compute"),
        ((2.0, 1.0, 3.0), 3.0, "communication"),
        ((2.0, 2.0, 1.0), 2.0, "memory"),  # a tie goes to the first
    ],
)
def test_the_slowest_resource_sets_the_time_and_takes_all_of_it(times, latency, bound) -> None:
    found = Seconds(*times)
    assert found.latency == latency
    expected = [latency if name == bound else 0.0 for name in BOUNDS]
    assert [float(share) for share in found.shares] == expected


def test_operators_in_turn_take_what_each_takes() -> None:
    # 3 s and a half of 1 + 2 s; 4 s alone; 2 s and a half of 1 s: 4.5 + 4 + 2.5, and 0.25 each.
    spent = (3.0, 2.0, 1.0), (4.0, 0.0, 0.0), (1.0, 2.0, 0.0)
    each = [Seconds(*times, unhidden=0.5, overhead=0.25) for times in spent]
    assert [float(one.latency) for one in each] == [4.75, 4.25, 2.75]
    assert float(in_turn(each)) == 11.75
    assert in_turn([]) == 0.0


def test_every_peak_stands_where_its_type_does() -> None:
    machine = hardware_params(hardware())
    for place, dtype in enumerate(PEAK_DTYPES):
        expected = PEAKS.get(dtype, max(PEAKS["fp16"], PEAKS["bf16"]))
        assert peak_rate(machine, jnp.asarray(place)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("recipe", "attention", "ffn", "experts", "head", "hidden"),
    [
        ("fp16", "fp16", "fp16", "fp16", "fp16", "fp16"),
        ("bf16", "bf16", "bf16", "bf16", "bf16", "bf16"),
        # 8-bit products at the 8-bit rate, attention and head in 16 bits: fp16, the faster half.
        ("fp8", "fp8", "fp8", "fp8", "fp16", "fp16"),
        ("fp8-kv16", "fp8", "fp8", "fp8", "fp16", "fp16"),
        ("int8", "int8", "int8", "int8", "fp16", "fp16"),
        ("nvfp4", "fp4", "fp4", "fp4", "fp16", "fp16"),
        ("mxfp4", "fp4", "fp4", "fp4", "fp16", "fp16"),
        # Weights alone in fewer bits raise no rate.
        ("w4a16", "fp16", "fp16", "fp16", "fp16", "fp16"),
        ("w8a16", "fp16", "fp16", "fp16", "fp16", "fp16"),
        ("mxfp4-experts", "fp16", "fp16", "fp16", "fp16", "fp16"),
        # Mixed checkpoints: each part at its own rate.
        ("nvfp4-experts", "fp16", "fp4", "fp4", "fp16", "fp16"),
        ("fp8-experts", "fp16", "fp16", "fp8", "fp16", "fp16"),
    ],
)
def test_operand_types_set_the_rate(recipe, attention, ffn, experts, head, hidden) -> None:
    machine, storage = hardware_params(hardware()), precision_params(shipped().precision(recipe))
    expected = dict(zip(ROLES, (attention, ffn, experts, head, hidden), strict=True))
    for role, dtype in expected.items():
        assert peak_rate(machine, storage.peak(role)) == pytest.approx(PEAKS[dtype])


@pytest.mark.parametrize(
    ("recipe", "weight", "activation", "hidden", "kv", "head", "group"),
    [
        ("fp16", 2, 2, 2, 2, 2, 0),
        ("fp8", 1, 1, 2, 1, 2, 0),
        ("int8", 1, 1, 2, 1, 2, 0),
        ("w8a16", 1, 2, 2, 2, 2, 0),
        ("w4a16", 0.5 + 2 / 128, 2, 2, 2, 2, 128),  # a 16-bit scale for 128 weights
        ("nvfp4", 0.5 + 1 / 16, 0.5 + 1 / 16, 2, 1, 2, 0),  # 4.5 bits: an 8-bit scale for 16
        ("mxfp4", 0.5 + 1 / 32, 0.5 + 1 / 32, 2, 1, 2, 0),  # 4.25 bits: an 8-bit scale for 32
        ("fp8-kv16", 1, 1, 2, 2, 2, 0),
    ],
)
def test_bytes_of_shipped_recipes(recipe, weight, activation, hidden, kv, head, group) -> None:
    found = precision_params(shipped().precision(recipe))
    for part in (found.attention, found.ffn, found.experts):
        assert (part.weight, part.activation, part.group) == (weight, activation, group)
    assert (found.hidden, found.kv, found.head.weight) == (hidden, kv, head)


def test_bytes_of_mixed_recipes() -> None:
    def weights(recipe: str) -> list[float]:
        found = precision_params(shipped().precision(recipe))
        return [found.attention.weight, found.ffn.weight, found.experts.weight]

    assert weights("mxfp4-experts") == [2, 2, 0.5 + 1 / 32]
    assert weights("nvfp4-experts") == [2, 0.5 + 1 / 16, 0.5 + 1 / 16]
    assert weights("fp8-experts") == [2, 2, 1]


def test_figures_nobody_published_do_not_limit() -> None:
    unknown = ("vector_flops_per_s", "special_function_ops_per_s", "on_chip_cache_bytes")
    links = ("link_bandwidth_bytes_per_s", "pcie_bandwidth_bytes_per_s")
    found = hardware_params(hardware(**dict.fromkeys((*unknown, *links))))
    rates = (found.vector_rate, found.special_rate, found.cache, *found.fabric_bandwidth[:2])
    assert rates == (float("inf"),) * 5


def test_pcie_stands_in_for_a_missing_link() -> None:
    def rate(**changes: Any) -> float:
        machine = hardware_params(hardware(**changes))
        return float(machine.fabric_bandwidth[int(fabric(machine, 4.0))])

    assert rate() == 3e11
    assert rate(link_bandwidth_bytes_per_s=None) == 6e10
    # A bridge joins pairs: four GPUs are beyond it, and beyond two in a machine is the network.
    assert rate(link_gpus=2) == 6e10
    assert rate(link_gpus=2, gpus_per_node=2) == 2e10


def test_a_recipe_in_one_type_computes_in_it() -> None:
    for dtype in ("fp32", "fp16", "bf16", "fp8", "int8"):
        assert set(precision(dtype).compute_dtypes.values()) == {dtype}
