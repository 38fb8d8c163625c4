// Map over two axes: ratio of two accelerators, or values of one, with the resource that binds.

const MOST_TICKS = 9;
const NARROW = 600; // Width of a map whose colour bar goes above it, in pixels.
const STEPS = [1.25, 2, 4, 10, 40, 100, 1000]; // Ticks of ratios, with their reciprocals: 0.8, 0.5, 0.25 and so on. A scale ends at one.

const along = (axis) => (axis ? valuesOf(axis).map((_, k) => k) : [0]);
const indicesAt = (i, j) => ({ ...(state.up && { [state.up]: i }), ...(state.across && { [state.across]: j }) });
const grid = (of) => along(state.up).map((i) => along(state.across).map((j) => of(indicesAt(i, j))));
const everyCell = () => grid((indices) => indices).flat();
const shownMachine = () => (state.shown.endsWith("second") ? state.second : state.first);
const machines = () => [state.first, state.second].filter((machine) => machine >= 0);

/** Extend the rows from the centres of the outer cells to their edges. */
function toEdges(rows) {
  const wide = rows.map((row) => [row[0], ...row, row[row.length - 1]]);
  return [wide[0], ...wide, wide[wide.length - 1]];
}
const edges = (axis) => [-0.5, ...along(axis), along(axis).length - 0.5];

/** A number of an axis with separators; a label as it is. */
const labelled = (value) => (typeof value === "number" ? digits(value, 9) : value);

function mapAxis(axis) {
  if (!axis) return axisStyle("", { showticklabels: false, showgrid: false });
  const values = valuesOf(axis);
  const step = Math.ceil(values.length / MOST_TICKS);
  const ticks = along(axis).filter((k) => k % step === 0);
  const title = plain(data.axes[axis].title);
  return axisStyle(title, {
    tickvals: ticks, ticktext: ticks.map((k) => plain(labelled(values[k]))), range: [-0.5, values.length - 0.5], showgrid: false,
  });
}

/** The value, interval and binding resource of one accelerator in a cell. */
function cellWords(machine, indices) {
  const variable = data.variables[state.variable];
  const found = [quantity(variable, value(state.variable, machine, indices))];
  if (variable.ends) {
    const [low, high] = variable.ends.map((end) => quantity(variable, value(end, machine, indices)));
    found.push(`90 %: ${low} to ${high}`);
  }
  const binds = binding(machine, indices);
  if (binds) found.push(`bound by ${binds}`);
  if (!runs(machine, indices)) found.push("cannot run");
  if (overloaded(machine, indices)) found.push("requests wait for a slot");
  return found;
}

function hoverText(indices) {
  const at = Object.entries(indices).map(([axis, k]) => `${spaced(axis)} ${digits(valuesOf(axis)[k], 9)}`);
  const rows = machines().map((machine) => `<b>${plain(nameOf(machine))}</b>: ${cellWords(machine, indices).map(plain).join(", ")}`);
  const ratio = state.second >= 0 ? [`ratio ${digits(ratioOf(indices), 3)}`] : [];
  return [at.map(plain).join(", "), ...rows, ...ratio].join("<br>");
}

/** Ticks of ratios up to a spread in powers of two. */
function ratioTicks(spread) {
  const reached = STEPS.filter((step) => Math.log2(step) <= spread * 1.001).slice(isNarrow() ? -2 : -4);
  return [...reached.map((step) => 1 / step).reverse(), 1, ...reached];
}

function ratioTrace() {
  const rows = grid((indices) => Math.log2(ratioOf(indices)));
  const most = Math.max(...rows.flat().filter(Number.isFinite).map(Math.abs), 0);
  const spread = Math.log2(STEPS.find((step) => most <= Math.log2(step * 1.001)) ?? 2 ** most);
  const ticks = ratioTicks(spread);
  const better = data.variables[state.variable].better;
  const what = better ? `advantage of ${plain(nameOf(state.first))} (ratio)` : `${plain(nameOf(state.first))} / ${plain(nameOf(state.second))} (ratio)`;
  return {
    rows, colorscale: diverging(), zmin: -spread, zmax: spread,
    colorbar: bar(what, ticks.map(Math.log2), ticks.map((tick) => digits(tick, 3))),
  };
}

const isNarrow = () => document.getElementById("map").clientWidth < NARROW && !print.matches;

/** A colour bar, beside a wide map and above a narrow one. */
function bar(title, tickvals, ticktext) {
  // Anchored at its bottom, Plotly would move the titles of the axes as it moves that of the picture.
  const horizontal = { orientation: "h", y: 1.08, yanchor: "middle", title: { text: title, side: "top" } };
  const vertical = { title: { text: title, side: "right" } };
  return { tickvals, ticktext, tickangle: 0, thickness: 16, outlinewidth: 0, ...(isNarrow() ? horizontal : vertical) };
}

function valueTrace(machine) {
  const rows = grid((indices) => value(state.variable, machine, indices));
  const there = rows.flat().filter((number) => Number.isFinite(number) && number > 0);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const { factor, name } = unitOf(there.length ? high : 1);
  const ticks = there.length ? [0, 0.25, 0.5, 0.75, 1].map((share) => low * (high / low) ** share) : [];
  const title = `${plain(spaced(state.variable))}${name ? ` (${name})` : ""}`;
  return {
    rows: rows.map((row) => row.map((number) => (number > 0 ? Math.log10(number) : NaN))), colorscale: "Cividis",
    colorbar: bar(title, ticks.map(Math.log10), ticks.map((tick) => digits(tick * factor, 3))),
  };
}

/** The binding resource of each cell, in its colour. */
function boundTrace(machine) {
  const colours = BOUNDS.flatMap((what, k) => [[k / 3, bindColour(what)], [(k + 1) / 3, bindColour(what)]]);
  return {
    rows: grid((indices) => BOUNDS.indexOf(binding(machine, indices))).map((row) => row.map((code) => (code < 0 ? NaN : code))),
    colorscale: colours, zmin: -0.5, zmax: 2.5, colorbar: bar(`binding resource on ${plain(nameOf(machine))}`, [0, 1, 2], isNarrow() ? ["memory", "compute", "link"] : BOUNDS),
  };
}

function mainTrace() {
  if (state.shown === "ratio") return ratioTrace();
  return state.shown.startsWith("bound") ? boundTrace(shownMachine()) : valueTrace(shownMachine());
}

function contour(rows, level, more) {
  return {
    type: "contour", x: edges(state.across), y: edges(state.up), z: toEdges(rows), hoverinfo: "skip", showscale: false,
    autocontour: false, contours: { start: level, end: level, size: 1, coloring: "none" }, showlegend: true, ...more,
  };
}

/** Lines where the binding resource changes, for each accelerator shown. */
function boundLines() {
  const shown = state.shown === "ratio" ? machines() : [shownMachine()];
  return shown.flatMap((machine, k) => {
    const rows = grid((indices) => binding(machine, indices));
    const present = [...new Set(rows.flat().filter(Boolean))];
    return present.slice(1).map((what) => contour(rows.map((row) => row.map((one) => Number(one === what))), 0.5, {
      name: plain(`${nameOf(machine)}: border of bound by ${what}`),
      line: { dash: k ? "dot" : "dash", width: 2, color: isDark() ? "#f5f5f5" : "#222222" },
    }));
  });
}

/** Hatching of the cells that satisfy a rule: a bar for each run of such cells in a row. */
function hatching(name, shape, rule) {
  const runs = [];
  grid(rule).forEach((row, i) => row.forEach((holds, j) => {
    const last = runs[runs.length - 1];
    if (holds && last?.row === i && last.end === j) last.end += 1;
    else if (holds) runs.push({ row: i, start: j, end: j + 1 });
  }));
  return {
    type: "bar", orientation: "h", name: plain(name), y: runs.map(({ row }) => row), width: 1, hoverinfo: "skip",
    base: runs.map(({ start }) => start - 0.5), x: runs.map(({ start, end }) => end - start),
    marker: { color: "rgba(0,0,0,0)", line: { width: 0 }, pattern: { shape, size: 9, solidity: 0.2, fgcolor: isDark() ? "#e0e0e0" : "#444444", bgcolor: "rgba(0,0,0,0)" } },
  };
}

/** Hatching of the cells that cannot run on one or both accelerators, or in which no server is ahead, as requests wait. */
function marked() {
  const shown = state.shown === "ratio" ? machines() : [shownMachine()];
  const able = (indices) => shown.map((machine) => runs(machine, indices));
  const waits = (indices) => able(indices).every(Boolean) && shown.some((machine) => overloaded(machine, indices));
  const alone = shown.length < 2 ? [] : shown.map((machine, k) => hatching(`runs on ${nameOf(machine)} alone`, k ? "." : "-", (indices) => able(indices)[k] && !able(indices)[1 - k]));
  return [
    hatching(shown.length < 2 ? "cannot run" : "runs on neither", "/", (indices) => !able(indices).some(Boolean)),
    ...alone, hatching("requests wait for a slot", "x", waits),
  ];
}

/** Factor and name of the unit of the chosen variable for a size. */
function unitOf(size) {
  const { units, counted } = data.variables[state.variable];
  return scaleFor(size, units, counted);
}

/** Values of each accelerator along the only open axis, or their ratio, as lines. */
function drawLines(axis) {
  const cells = along(axis).map((k) => ({ [axis]: k }));
  const x = valuesOf(axis);
  const numeric = typeof x[0] === "number" && x.every((number) => number > 0);
  const ratio = state.shown === "ratio";
  const shown = ratio ? [0] : machines();
  const numbersOf = (machine) => cells.map((indices) => (ratio ? ratioOf(indices) : value(state.variable, machine, indices)));
  const { factor, name } = ratio ? { factor: 1, name: "ratio" } : unitOf(Math.max(...shown.flatMap(numbersOf).filter(Number.isFinite)));
  const traces = shown.flatMap((machine, k) => {
    const look = { color: lines()[k], symbol: SYMBOLS[k] };
    const line = {
      type: "scatter", mode: "lines+markers", name: plain(ratio ? `${nameOf(state.first)} over ${nameOf(state.second)}` : nameOf(machine)), x,
      y: numbersOf(machine).map((number) => number * factor), marker: { ...look, size: 8 }, line: { color: look.color, width: 2 },
      text: cells.map(hoverText), hovertemplate: "%{text}<extra></extra>",
    };
    const { ends } = data.variables[state.variable];
    if (ratio || !ends) return [line];
    const [low, high] = ends.map((end) => cells.map((indices) => value(end, machine, indices) * factor));
    const band = {
      type: "scatter", mode: "lines", x: [...x, ...[...x].reverse()], y: [...low, ...high.reverse()], fill: "toself",
      line: { width: 0, color: look.color }, opacity: 0.25, hoverinfo: "skip", showlegend: false,
    };
    return [band, line];
  });
  const level = { type: "scatter", mode: "lines", name: "break-even (ratio 1)", x: [x[0], x[x.length - 1]], y: [1, 1], line: { dash: "dash", color: colour("text") }, hoverinfo: "skip" };
  const across = axisStyle(plain(data.axes[axis].title), numeric ? { type: "log", tickvals: x, ticktext: x.map((number) => digits(number, 9)) } : {});
  const up = logTicks(traces.flatMap((trace) => trace.y));
  const title = ratio ? `advantage of ${plain(nameOf(state.first))} (ratio)` : `${plain(spaced(state.variable))}${name ? ` (${name})` : ""}`;
  draw("map", [...traces, ...(ratio ? [level] : [])], { xaxis: across, yaxis: axisStyle(title, up), showlegend: true }, ({ pointNumber, curveNumber }) => {
    if (traces[curveNumber]?.text) choose({ [axis]: pointNumber });
  });
}

function drawMap() {
  const open = [state.across, state.up].filter((axis) => axis && valuesOf(axis).length > 1);
  if (open.length === 1 && !state.shown.startsWith("bound")) {
    drawLines(open[0]);
    return;
  }
  const { rows, ...look } = mainTrace();
  const cells = {
    type: "heatmap", x: along(state.across), y: along(state.up), z: rows, text: grid(hoverText),
    hovertemplate: "%{text}<extra></extra>", hoverongaps: true, ...look,
  };
  const some = rows.flat().filter(Number.isFinite);
  const crossed = state.shown === "ratio" && Math.min(...some) < 0 && Math.max(...some) > 0 && rows.length > 1 && rows[0].length > 1;
  const even = crossed ? [contour(rows, 0, { name: "break-even (ratio 1)", line: { width: 3, color: colour("text") } })] : [];
  const chosen = {
    type: "scatter", mode: "markers", name: "chosen cell", x: [state.indices[state.across] ?? 0], y: [state.indices[state.up] ?? 0],
    hoverinfo: "skip", marker: { symbol: "square-open", size: 15, line: { width: 3 }, color: isDark() ? "#ff7ac2" : "#c2006b" },
  };
  const hatched = marked().filter((trace) => trace.x.length);
  draw("map", [cells, ...hatched, ...boundLines(), ...even, chosen], {
    xaxis: mapAxis(state.across), yaxis: mapAxis(state.up), barmode: "overlay", margin: { t: isNarrow() ? 108 : MARGIN.t },
  }, (point) => {
    const at = [[state.across, point.x], [state.up, point.y]].filter(([axis]) => axis);
    choose(Object.fromEntries(at.map(([axis, k]) => [axis, Math.round(k)])));
  });
}

function drawHint() {
  const { title, comment, better } = data.variables[state.variable];
  const way = better && state.shown === "ratio" ? ` Above 1, ${nameOf(state.first)} is ahead.` : "";
  const map = [state.across, state.up].every((axis) => axis && valuesOf(axis).length > 1);
  const how = map ? " Hover over a cell for its figures; click it for its breakdown by operator." : "";
  document.getElementById("map-hint").textContent = `${title[0].toUpperCase()}${title.slice(1)}. ${spaced(comment)}${way}${how}`;
}

/** All quantities of the chosen cell, an accelerator in each column. */
function drawReadout() {
  const each = machines();
  const served = state.variable.startsWith("inflight_");
  const figures = data.shown.filter((name) => data.variables[name].better !== null || name === state.variable);
  const rows = figures.map((name) => {
    const variable = data.variables[name];
    const told = each.map((machine) => {
      const ends = variable.ends?.map((end) => quantity(variable, value(end, machine, {})));
      const found = quantity(variable, value(name, machine, {}));
      return ends && !ends.includes("–") ? { main: found, under: `${ends[0]} to ${ends[1]}` } : found;
    });
    const ratio = state.second >= 0 ? [digits(advantage(name, {}), 3)] : [];
    return { cells: [variable.title.replace(" under in-flight batching", ""), ...told, ...ratio], strong: name === state.variable };
  });
  const why = served ? "inflight_infeasible_reason" : "infeasible_reason";
  const flags = [
    ["decode bound by", (machine) => binding(machine, {}) ?? ""],
    ["beyond the measurements in", (machine) => {
      const masks = Object.keys(data.variables).filter((name) => name.endsWith("extrapolation"));
      return [...new Set(masks.flatMap((mask) => meanings(mask, value(mask, machine, {}))))].map(spaced).join(", ");
    }],
    ["requests wait for a slot", (machine) => (overloaded(machine, {}) ? "yes" : "")],
    ["can run", (machine) => {
      const reasons = meanings(why, value(why, machine, {})).map(spaced).join(", ");
      return runs(machine, {}) ? "yes" : `no${reasons ? `: ${reasons}` : ""}`;
    }],
  ];
  for (const [name, of] of flags) {
    const found = each.map(of);
    if (found.some(Boolean)) rows.push({ cells: [name, ...found, ...(state.second >= 0 ? [""] : [])] });
  }
  const ratio = state.second >= 0 ? [`advantage of ${nameOf(state.first)}`] : [];
  const cell = `chosen cell${served ? ", in-flight batching" : ""}${figures.some((name) => data.variables[name].ends) ? ", with 90 % intervals" : ""}`;
  fillTable(document.getElementById("readout"), [cell, ...each.map(nameOf), ...ratio], rows);
}
