"""A comparison of two accelerators: where each wins, by how much, and the answer in words."""

from dataclasses import dataclass

import xarray as xr

from sweep.engines.calibration_file import IDEAL_NAME


@dataclass(frozen=True)
class Comparison:
    """Advantage of one accelerator, or value of another axis, along two axes of a result.

    Attributes:
        model: The model.
        variable: The quantity.
        hardware: The two accelerators, or values of another axis in words; the ratio is above 1
            where the first does better.
        ratio: Over two axes: `load_axis`, usually the batch size or the concurrency, and
            `length_axis`, usually a length.
        fits: Cells that each of the two can run, at some value of the axes along which the
            quantity does not vary, or `None` if the file does not say.
        setting: Values along the axes that do not vary, in words.
        calibration: The calibration that predicted both, `ideal` if they are bounds.
        close: Cells in which the 90 % intervals overlap, or `None` if there are none.
        overloaded: Cells in which requests wait for a slot of a server of either, or `None` if
            the file does not say.
        beyond_context: Sentence on requests that are longer than the model is made for, or nothing.
    """

    model: str
    variable: str
    hardware: tuple[str, str]
    ratio: xr.DataArray
    fits: tuple[xr.DataArray, xr.DataArray] | None
    setting: str
    calibration: str = IDEAL_NAME
    close: xr.DataArray | None = None
    overloaded: xr.DataArray | None = None
    beyond_context: str = ""

    @property
    def load_axis(self) -> str:
        """The first axis that the ratio varies over, usually a load."""
        return str(self.ratio.dims[0])

    @property
    def length_axis(self) -> str:
        """The second axis that the ratio varies over, usually a length."""
        return str(self.ratio.dims[1])

    def sentence(self) -> str:
        """The answer in one sentence, with a caveat in another."""
        caveat = f" {self.beyond_context}." if self.beyond_context else ""
        return f"{self._answer()}{caveat}"

    def _answer(self) -> str:
        first, second = self.hardware
        runs = self.ratio.notnull()
        if self.fits is not None:
            runs = runs & self.fits[0] & self.fits[1]
        counted = runs if bool(runs.any()) else self.ratio.notnull()
        is_ideal = self.calibration == IDEAL_NAME
        by = "as bounds" if is_ideal else f"by {self.calibration.split()[0]}"
        start = f"{self.model}, {self.variable} {by}: "
        if not bool(counted.any()):
            return start + f"no cell can run on both {first} and {second}{self._alone_note()}."
        waiting = self._waiting(counted)
        if waiting is not None:
            counted = counted & ~waiting
            if not bool(counted.any()):
                return start + f"a server is overloaded in every cell{self._fit_note(runs)}."
        ratio = self.ratio.where(counted)
        overload = "" if waiting is None else _overload_note(waiting)
        caveats = self._close_note(counted) + overload + self._fit_note(runs)
        return f"{start}{self._verdict(ratio)}{caveats}."

    def _verdict(self, ratio: xr.DataArray) -> str:
        """The winner of each cell in words; NaN cells do not count."""
        first, second = self.hardware
        cells = int(ratio.notnull().sum())
        ahead, behind = int((ratio > 1).sum()), int((ratio < 1).sum())
        if not ahead and not behind:
            return "the two are level"
        if cells in (ahead, behind):
            gain = ratio if ahead else 1 / ratio
            ends = dict.fromkeys(f"{float(end):.2f}" for end in (gain.min(), gain.max()))
            return f"{first if ahead else second} wins everywhere, by {' to '.join(ends)} times"
        winner, gain = (first, ratio) if ahead else (second, 1 / ratio)
        parts = [
            f"{winner} wins {100 * (ahead or behind) / cells:.0f} % of {cells} cells "
            f"({self._region(gain > 1)}), by up to {float(gain.max()):.2f} times"
        ]
        level = ahead + behind < cells
        if ahead and behind:
            share = f"{100 * behind / cells:.0f} %" if level else "the rest"
            parts.append(f"{second} wins {share}, by up to {float((1 / ratio).max()):.2f} times")
        return "; ".join([*parts, *(["they are level in the rest"] if level else [])])

    def _waiting(self, counted: xr.DataArray) -> xr.DataArray | None:
        """Cells of `counted` that no accelerator wins, as requests wait for a slot."""
        if self.overloaded is None:
            return None
        waiting = counted & self.overloaded
        return waiting if bool(waiting.any()) else None

    def _close_note(self, counted: xr.DataArray) -> str:
        if self.close is None:
            return "" if self.calibration == IDEAL_NAME else "; it has no interval"
        close = int((self.close & counted).sum())
        if not close:
            return ", beyond their 90 % intervals"
        share = 100 * close / int(counted.sum())
        return f"; in {share:.0f} % of the cells their 90 % intervals overlap"

    def _region(self, where: xr.DataArray) -> str:
        """The corner of the mesh that holds all cells of `where`."""
        parts = []
        for dim in (self.load_axis, self.length_axis):
            held = where.any([d for d in where.dims if d != dim])
            values = where[dim].values[held.values]
            low, high = values.min(), values.max()
            at_start, at_end = low == where[dim].values[0], high == where[dim].values[-1]
            if at_start and at_end:
                continue
            if at_end:
                parts.append(f"{dim} from {low}")
            elif at_start:
                parts.append(f"{dim} up to {high}")
            else:
                parts.append(f"{dim} {low} to {high}")
        return ", ".join(parts) or "scattered over the whole mesh"

    def _fit_note(self, runs: xr.DataArray) -> str:
        if self.fits is None:
            return (
                "; the file lacks the variable feasible, so cells that cannot run may be among them"
            )
        left_out = int(runs.size - runs.sum())
        if not left_out:
            return ""
        if left_out == runs.size:
            both = "; no cell can run on both, so the comparison is theoretical"
        else:
            both = f"; {left_out} of {runs.size} cells cannot run on both"
        return both + self._alone_note()

    def _alone_note(self) -> str:
        """The number of cells that run on only one of the two."""
        if self.fits is None:
            return ""
        pairs = zip(self.hardware, self.fits, self.fits[::-1], strict=True)
        alone = {name: int((own & ~other).sum()) for name, own, other in pairs}
        return "".join(f", {count} run only on {name}" for name, count in alone.items() if count)


def _overload_note(waiting: xr.DataArray) -> str:
    return (
        f"; {int(waiting.sum())} of {waiting.size} cells do not count, as requests wait for a slot "
        "of an overloaded server"
    )
