// Map over two axes: ratio of two accelerators, or values of one, with the resource that binds.

const MOST_TICKS = 9;
const NARROW = 600; // Width of a map whose colour bar goes above it, in pixels.
const NEAREST = 1.25; // Ends of the colour scale where all ratios are nearer to 1.
const STEPS = [1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100];

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

function mapAxis(axis) {
  if (!axis) return axisStyle("", { showticklabels: false, showgrid: false });
  const values = valuesOf(axis);
  const step = Math.ceil(values.length / MOST_TICKS);
  const ticks = along(axis).filter((k) => k % step === 0);
  const title = plain(data.axes[axis].title);
  return axisStyle(title, {
    tickvals: ticks, ticktext: ticks.map((k) => plain(values[k])), range: [-0.5, values.length - 0.5], showgrid: false,
  });
}

/** The value, interval and binding resource of one accelerator in a cell. */
function cellWords(machine, indices) {
  const variable = data.variables[state.variable];
  const found = [worded(value(state.variable, machine, indices), variable.units)];
  if (variable.ends) {
    const [low, high] = variable.ends.map((end) => worded(value(end, machine, indices), variable.units));
    found.push(`90 %: ${low} to ${high}`);
  }
  const binds = binding(machine, indices);
  if (binds) found.push(`bound by ${binds}`);
  if (!runs(machine, indices)) found.push("cannot run");
  return found;
}

function hoverText(indices) {
  const at = Object.entries(indices).map(([axis, k]) => `${spaced(axis)} ${digits(valuesOf(axis)[k], 9)}`);
  const rows = machines().map((machine) => `<b>${plain(nameOf(machine))}</b>: ${cellWords(machine, indices).map(plain).join(", ")}`);
  const ratio = state.second >= 0 ? [`ratio ${digits(ratioOf(indices), 3)}`] : [];
  return [at.map(plain).join(", "), ...rows, ...ratio].join("<br>");
}

function ratioTrace() {
  const rows = grid((indices) => Math.log2(ratioOf(indices)));
  const spread = Math.max(...rows.flat().filter(Number.isFinite).map(Math.abs), Math.log2(NEAREST));
  const reached = STEPS.filter((step) => Math.log2(step) <= spread * 1.001).slice(isNarrow() ? -2 : -3);
  const ticks = [...reached.map((step) => 1 / step).reverse(), 1, ...reached];
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
  const horizontal = { orientation: "h", y: 1.02, yanchor: "bottom", title: { text: title, side: "top" } };
  const vertical = { title: { text: title, side: "right" } };
  return { tickvals, ticktext, tickangle: 0, thickness: 16, outlinewidth: 0, ...(isNarrow() ? horizontal : vertical) };
}

function valueTrace(machine) {
  const rows = grid((indices) => value(state.variable, machine, indices));
  const there = rows.flat().filter((number) => Number.isFinite(number) && number > 0);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const { factor, name } = scaleFor(there.length ? high : 1, data.variables[state.variable].units);
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

/** Hatching of the cells that cannot run on one or both accelerators. */
function incapable() {
  if (state.shown !== "ratio") return [hatching("cannot run", "/", (indices) => !runs(shownMachine(), indices))];
  const able = (indices) => machines().map((machine) => runs(machine, indices));
  return [
    hatching("runs on neither", "/", (indices) => !able(indices).some(Boolean)),
    ...machines().map((machine, k) => hatching(`runs on ${nameOf(machine)} alone`, k ? "." : "-", (indices) => able(indices)[k] && !able(indices)[1 - k])),
  ];
}

function drawMap() {
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
  const blank = incapable().filter((trace) => trace.x.length);
  const drawn = draw("map", [cells, ...blank, ...boundLines(), ...even, chosen], {
    xaxis: mapAxis(state.across), yaxis: mapAxis(state.up), barmode: "overlay", margin: { t: isNarrow() ? 104 : MARGIN.t },
  });
  drawn.on("plotly_click", ({ points: [point] }) => {
    for (const [axis, k] of [[state.across, point.x], [state.up, point.y]]) if (axis) state.indices[axis] = Math.round(k);
    drawAll();
  });
}

function drawHint() {
  const { title, comment, better } = data.variables[state.variable];
  const way = better && state.shown === "ratio" ? ` Above 1, ${nameOf(state.first)} is ahead.` : "";
  document.getElementById("map-hint").textContent =
    `${state.variable}: ${title}. ${comment}${way} Hover over a cell for its figures. Click it, or choose it below, for its breakdown by operator.`;
}

function drawReadout() {
  const variable = data.variables[state.variable];
  const mask = state.variable.startsWith("inflight_") ? "inflight_" : state.variable.startsWith("ttft") ? "ttft_" : "";
  const why = state.variable.startsWith("inflight_") ? "inflight_infeasible_reason" : "infeasible_reason";
  const head = ["chosen cell", variable.title, ...(variable.ends ? ["90 % interval"] : []), "bound by", "can run"];
  const rows = machines().map((machine) => {
    const reasons = meanings(why, value(why, machine, {})).map(spaced).join(", ");
    const ends = variable.ends?.map((end) => worded(value(end, machine, {}), variable.units)).join(" to ");
    const beyond = meanings(`${mask}extrapolation`, value(`${mask}extrapolation`, machine, {})).map(spaced).join(", ");
    return [
      nameOf(machine), worded(value(state.variable, machine, {}), variable.units),
      ...(variable.ends ? [ends + (beyond ? ` (${beyond})` : "")] : []), binding(machine, {}) ?? "unknown",
      runs(machine, {}) ? "yes" : `no${reasons ? `: ${reasons}` : ""}`,
    ];
  });
  if (state.second >= 0) rows.push(["ratio", digits(ratioOf({}), 3), ...head.slice(2).map(() => "")]);
  fillTable(document.getElementById("readout"), head, rows);
}
