"""Engines: what is particular to one belongs to it alone, and a second takes one class."""

import dataclasses
import warnings

import numpy as np
import pytest
from factories import shipped
from test_measurements import row

from calibration.fit.parameters import design, settings_of
from calibration.fit.points import observe, recipe_of
from calibration.fit.table import tabulate
from calibration.validation.accuracy_report import kinds
from sweep.engines import known
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.engines.engine import Engine, Types
from sweep.engines.known import engine_of
from sweep.engines.memory_share import memory_share
from sweep.engines.prediction_interval import beyond_bits
from sweep.engines.traits import traits_of
from sweep.engines.versions import version_of, version_order
from sweep.errors import SpecError, SpecWarning
from sweep.kernel.factors import FACTORS
from sweep.models.read import read_blocks
from sweep.specs.model import ModelSpec

TENSORRT = engine_of("tensorrt-llm")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.19.0", (0, 19, 0)),
        ("v1.0rc2", (1, 0)),
        ("1.x.3", (1,)),
        ("", ()),
        ("0.7.1+cu12", (0, 7, 1)),
        ("v0.19.0rc1", (0, 19, 0)),
        ("1.1.0-rev1", (1, 1, 0)),
        ("0.7a", (0, 7)),
        ("1.0.0b2", (1, 0, 0)),
        ("0.5.3.post3", (0, 5, 3)),
        ("0.9.0.1", (0, 9, 0, 1)),
        ("0.19.1rc1.dev339+gedc364896", (0, 19, 1)),
        ("0.20.1+transformers-5.8.1", (0, 20, 1)),
        ("nightly 1.0", ()),
        ("1.²", (1,)),
        ("1." + "9" * 5000, (1, 10**100 - 1)),
    ],
)
def test_versions_are_numbers(text: str, number: tuple[int, ...]) -> None:
    assert version_of(text) == number


def test_versions_of_one_release_have_an_order() -> None:
    given = ["1.1.0-rev1", "1.1.0", "1.0.0rc3", "0.10.0", "0.9.0"]
    expected = ["0.9.0", "0.10.0", "1.0.0rc3", "1.1.0", "1.1.0-rev1"]
    assert sorted(given, key=version_order) == sorted(reversed(given), key=version_order)
    assert sorted(given, key=version_order) == expected


@pytest.mark.parametrize(
    ("last", "era", "first", "following"),
    [
        ("0.7.1", "static-0.7", "0.8.0", "static"),
        ("0.9.0", "static", "0.10.0", "0.10"),
        ("0.10.0", "0.10", "0.11.0", "cpp-0.14"),
        ("0.14.0", "cpp-0.14", "0.15.0", "cpp"),
        ("0.18.2", "cpp", "0.19.0", "pytorch"),
        ("0.21.0", "pytorch", "1.2.0", "pytorch"),
    ],
)
def test_both_sides_of_each_bound_of_an_era(last, era, first, following) -> None:
    assert (TENSORRT.era(last), TENSORRT.era(first)) == (era, following)


@pytest.mark.parametrize(
    ("era", "single", "four", "eight"),
    [
        ("static-0.7", "single heads", "shared heads one by one", "shared heads one by one"),
        ("static", "single heads", "shared heads one by one", "shared heads together"),
        ("0.10", "single heads", "shared heads one by one", "shared heads together"),
        ("cpp-0.14", "single heads", "shared heads together", "shared heads together"),
        ("pytorch", "single heads", "shared heads together", "shared heads together"),
    ],
)
def test_kernels_of_decode_attention_by_era(era, single, four, eight) -> None:
    assert [TENSORRT.decoding(era, sharing) for sharing in (1, 4, 8)] == [single, four, eight]


@pytest.mark.parametrize(
    ("version", "routed", "groups"),
    [("0.21.0", True, 1), ("1.0.0", True, 8), ("1.2.0", True, 8), ("1.0.0", False, 1)],
)
def test_attention_groups_of_published_rows(version: str, routed: bool, groups: int) -> None:
    assert TENSORRT.attention_groups(version, 8, routed=routed) == groups


def test_habits_of_recipes() -> None:
    fp8, fp4 = Types("fp8"), Types("fp4")
    assert TENSORRT.recipe(fp8).kv_dtype == "fp8"
    assert TENSORRT.recipe(fp4, latent=True).part("attention").weight_dtype == "half"
    assert TENSORRT.recipe(fp4).part("attention").weight_dtype == "nvfp4"
    assert TENSORRT.recipe(fp8, latent=True).part("attention").weight_dtype == "fp8"
    # 4-bit weights beside 16-bit inputs are another kind of checkpoint.
    assert (
        TENSORRT.recipe(Types("fp4", "half"), latent=True).part("attention").weight_dtype == "nvfp4"
    )
    plain = engine_of("unknown")
    assert plain.recipe(fp8).kv_dtype == "half"
    assert plain.recipe(fp4, latent=True).part("attention").weight_dtype == "nvfp4"


def test_an_unknown_engine_inherits_nothing() -> None:
    """Whatever `TensorRTLLM` overrides, another name gets the neutral form of."""
    other = engine_of("unknown")
    assert type(other) is Engine
    for version in ("0.7.0", "0.10.0", "1.0.0"):
        assert other.era(version) == "unknown"
        assert other.attention_groups(version, 8, routed=True) == 1
    assert other.decoding("0.10", 4) == "shared heads together"
    assert other.reported_apart("0.10") is None
    assert other.settings == {}
    windowed = shipped().model("mistral-7b-v0.1")
    assert other.as_run(windowed) is windowed
    assert TENSORRT.as_run(windowed).config["sliding_window"] is None


def test_engines_size_their_cache_by_shares_of_their_own() -> None:
    shares = {name: engine_of(name).memory_share for name in ("vllm", "sglang", "tensorrt-llm")}
    assert shares == {
        "vllm": ("gpu_memory_utilization", 0.9),
        "sglang": ("mem_fraction_static", 0.9),
        "tensorrt-llm": ("kv_cache_fraction", 0.9),
    }
    calibration = Calibration(name="mine", engine="vllm")
    assert memory_share(calibration) == {"gpu_memory_utilization": [0.9]}
    assert memory_share(None) == {}
    # A calibration fitted with the memory that the engine keeps does not take it off twice.
    assert memory_share(load_calibration("vllm")) == {}


@dataclasses.dataclass(frozen=True)
class Other(Engine):
    """An engine with habits of its own, as one file would define it."""

    name: str = "other"
    settings: dict = dataclasses.field(
        default_factory=lambda: {"kept_context": {"default": 0.5}, "unhidden": {"default": 0.25}}
    )

    def era(self, version: str) -> str:
        return "old" if version_of(version) < (2,) else "new"

    def decoding(self, era: str, sharing: int) -> str:
        return f"{era} kernels"

    def attention_groups(self, version: str, stage_gpus: int, *, routed: bool) -> int:
        return 2

    def as_run(self, spec: ModelSpec) -> ModelSpec:
        return spec.model_copy(update={"config": {**spec.config, "sliding_window": 64}})

    def kv_dtype(self, activation: str, hidden: str) -> str:
        return "int8"

    def reported_apart(self, era: str) -> str | None:
        return "long ago" if era == "old" else None


@pytest.fixture
def with_other(monkeypatch):
    monkeypatch.setattr(known, "ENGINES", {**known.ENGINES, "other": Other()})


def of_other(**changes: object):
    return row(**{"engine": "other", "model": "mistral-7b-v0.1", "value": 9.0, "tp": 1} | changes)


def test_a_second_engine_takes_one_class(with_other) -> None:
    rows = [of_other(id="a", engine_version="1.0"), of_other(id="b", engine_version="2.0")]
    table = tabulate(rows, shipped())
    assert [traits.era for traits in table.traits] == ["old", "new"]
    assert [traits.decoding for traits in table.traits] == ["old kernels", "new kernels"]
    assert kinds(table).tolist() == ["in flight, long ago", "in flight, dense models"]
    assert recipe_of(rows[0], shipped()).kv_dtype == "int8"
    (group,) = table.groups
    windows = {float(w) for block in group.point.model.blocks for w in np.atleast_1d(block.window)}
    assert 64.0 in windows
    kept = design(table.traits)._fixed[:, FACTORS.index("kept_context")]
    assert kept.tolist() == [0.5, 0.5]


def test_rows_of_two_engines_keep_their_own_windows_and_settings(with_other) -> None:
    """One model, three engines: each row is run as its own engine runs it."""
    engines = ("tensorrt-llm", "other", "third")
    rows = [of_other(id=engine, engine=engine) for engine in engines]
    windows = {
        rows[row].id: max(float(block.window[at]) for block in group.point.model.blocks)
        for group in observe(rows, shipped())
        for at, row in enumerate(group.rows)
    }
    assert windows == {"tensorrt-llm": 0.0, "other": 64.0, "third": 4096.0}  # 0: no window
    traits = tabulate(rows, shipped()).traits
    kept = design(traits)._fixed[:, FACTORS.index("kept_context")]
    assert kept.tolist() == [1.0, 0.5, 0.0]
    settings = settings_of(traits, "tensorrt-llm")
    assert settings["kept_context"] == {"default": 1.0, "old": 0.5, "third": 0.0}
    assert settings["logit_copies"]["third"] == 1.0
    # What no other engine has is neutral for them.
    assert settings["unhidden"] == {"default": 0.0, "old": 0.25, "third": 0.0}
    # Rows of another engine leave those of the calibration that a fit starts from as they are.
    base = load_calibration("tensorrt-llm")
    assert base is not None
    continued = settings_of(traits[2:], "third", base)
    assert continued["kept_context"] == {"default": 1.0, "third": 0.0}
    assert continued["logit_copies"] == base.settings["logit_copies"] | {"third": 1.0}
    # Habits that only the other engine has are ideal for the calibration's own.
    shared = settings_of(tabulate([row(engine="vllm")], shipped()).traits, "third", base)
    assert sorted(shared["total_memory_share"].values()) == [0.0, 0.9]
    assert shared["total_memory_share"]["default"] == 0.0
    # Whatever the order of the rows, the default is that of the calibration's engine.
    assert settings_of(traits[::-1], "tensorrt-llm")["kept_context"]["default"] == 1.0
    assert settings["reserved_memory_bytes"] == {"default": 2.5e9, "old": 0.0, "third": 0.0}


def test_a_layout_that_is_unusual_for_its_engine_is_remarked_upon() -> None:
    silent = row(value=9.0)
    with pytest.warns(SpecWarning, match="dp_attention is not stated and counts as 1, in 2 rows"):
        tabulate([silent.model_copy(update={"id": name}) for name in "ab"], shipped())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tabulate([row(value=9.0, dp_attention=1)], shipped())
        tabulate([row(value=9.0, engine="vllm")], shipped())
        tabulate([row(value=9.0, engine_version="0.21.0")], shipped())


def test_traits_name_their_engine() -> None:
    catalog = shipped()
    blocks = read_blocks(catalog.model("llama-3.1-8b").config, "")
    found = traits_of(
        catalog.hardware("h100-sxm-80gb"), catalog.precision("fp8"), "vllm", "0.10.0", blocks
    )
    assert (found.engine, found.era, found.version) == ("vllm", "vllm", "vllm 0.10.0")
    assert found.attention == "vllm, 4 to 1"
    assert found.tokenizer == "vllm, vocabulary of 128256"


def test_traits_are_built_once_per_level(monkeypatch) -> None:
    """Of 2 models, 3 accelerators and 2 recipes: 7 levels, not 12 cells for each factor."""
    from sweep.engines import traits

    built = []
    whole = traits.traits_of
    monkeypatch.setattr(traits, "traits_of", lambda *given: built.append(1) or whole(*given))
    catalog = shipped()
    models = [read_blocks(catalog.model(n).config, "") for n in ("llama-3.1-8b", "mixtral-8x7b")]
    machines = [catalog.hardware(n) for n in ("h100-sxm-80gb", "a100-sxm-80gb", "l40s")]
    recipes = [catalog.precision(n) for n in ("fp16", "fp8")]
    calibration = load_calibration("tensorrt-llm")
    assert calibration is not None
    found = calibration.grid(models, machines, recipes)
    assert len(built) == 7
    # Its engine mixes prompts and decoding: a switch that is off is none of its factors.
    assert {*FACTORS} - {*found} == {"prefill_first"}
    version = calibration.engine, calibration.engine_version
    for name, array in found.items():
        for where in np.ndindex(array.shape):
            place = dict(zip(calibration.axes(name), where, strict=True))
            one = whole(
                machines[place.get("hardware", 0)],
                recipes[place.get("precision", 0)],
                *version,
                models[place.get("model", 0)],
            )
            assert array[where] == calibration.factor(name, one)


@pytest.mark.parametrize(
    ("name", "fabric", "host"),
    [
        ("l40s", "pcie", "server"),
        ("h100-nvl", "link", "server"),
        ("h100-sxm-80gb", "link", "server"),
        ("gh200-96gb", "link", "superchip"),
    ],
)
def test_traits_of_accelerators(name: str, fabric: str, host: str) -> None:
    """GPUs with a link to at least one other have the trait, whatever their number."""
    catalog = shipped()
    blocks = read_blocks(catalog.model("llama-3.1-8b").config, "")
    found = traits_of(
        catalog.hardware(name), catalog.precision("fp8"), "tensorrt-llm", "1.0.0", blocks
    )
    assert (found.fabric, found.host) == (fabric, host)


def test_the_ends_of_a_range_lie_within_it() -> None:
    sizes = np.asarray([0.0, 1.0, 32.0, 64.0, 65.0])
    outside = beyond_bits({"batch_size": [1, 64]}, {"batch_size": sizes}) > 0
    assert outside.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("engine", "version", "era"),
    [
        ("vllm", "0.7.3", "vllm, first core"),
        ("vllm", "0.8.0", "vllm"),
        ("vllm", "0.19.1rc1.dev339+gedc364896", "vllm"),
        ("vllm", "unstated", "vllm, unstated"),
        ("vllm", "", "vllm"),
        ("vllm-rocm", "0.6.6", "vllm-rocm, first core"),
        ("vllm-rocm", "0.9.0.1", "vllm-rocm, first core"),
        ("vllm-rocm", "0.9.1", "vllm-rocm"),
        ("sglang", "0.5.9", "sglang"),
        # A version that is no number counts as the latest, not as the oldest.
        ("tensorrt-llm", "", "pytorch"),
        ("tensorrt-llm", "nightly", "pytorch"),
    ],
)
def test_eras_of_engines(engine: str, version: str, era: str) -> None:
    assert engine_of(engine).era(version) == era


def test_experts_are_pooled_by_their_own_type() -> None:
    catalog = shipped()
    blocks = read_blocks(catalog.model("gpt-oss-120b").config, "")
    recipe = catalog.precision("mxfp4-experts")
    found = traits_of(catalog.hardware("h100-sxm-80gb"), recipe, "vllm", "0.18.0", blocks)
    assert (found.dtype, found.expert_kernel) == ("half", "vllm, mxfp4")


@pytest.mark.parametrize(
    ("engine", "machine", "makers"),
    [
        ("tensorrt-llm", "mi300x", "NVIDIA, not of AMD"),
        ("vllm-rocm", "h100-sxm-80gb", "AMD, not of NVIDIA"),
        ("sglang", "gaudi3", "NVIDIA, not of Intel"),
        ("sglang", "v100-sxm2-32gb", "NVIDIA, not of the generation volta"),
        ("tensorrt-llm", "v100-sxm2-32gb", "NVIDIA, not of the generation volta"),
        ("tensorrt-llm", "t4", "NVIDIA, not of the generation turing"),
    ],
)
def test_an_accelerator_that_an_engine_does_not_run_on_is_refused(engine, machine, makers) -> None:
    catalog = shipped()
    calibration = Calibration(name="mine", engine=engine)
    models = [read_blocks(catalog.model("llama-3.1-8b").config, "")]
    with pytest.raises(SpecError, match=f"{machine}: calibration mine.*{makers}"):
        calibration.grid(models, [catalog.hardware(machine)], [catalog.precision("fp16")])
    # One without an engine of its own has been seen nowhere in particular.
    open_to_all = Calibration(name="mine", engine="unknown")
    open_to_all.grid(models, [catalog.hardware(machine)], [catalog.precision("fp16")])


def test_generations_that_no_documentation_lists_are_of_these_engines() -> None:
    # From the page of each engine that its class names; A10 is Ampere, L4 Ada Lovelace.
    by_engine = {
        "tensorrt-llm": {"v100-sxm2-32gb": False, "t4": False, "a10": True, "l4": True},
        "vllm": {"v100-sxm2-32gb": True, "t4": True, "a10": True, "mi210": False},
        "vllm-rocm": {"mi210": True, "mi250x": True, "mi355x": True, "t4": False},
        "sglang": {"v100-sxm2-32gb": False, "t4": True, "a10": True},
    }
    for name, machines in by_engine.items():
        specs = [shipped().hardware(machine) for machine in machines]
        runs = [engine_of(name).runs_on(spec.vendor, spec.architecture) for spec in specs]
        assert dict(zip(machines, runs, strict=True)) == machines, name
