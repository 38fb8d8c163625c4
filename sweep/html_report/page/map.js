// The map over two axes: ratio of two accelerators, or one of them, with what binds.

const MOST_TICKS = 9;
const NARROW = 600; // Width of a map whose colour bar goes above it, in pixels.
const NEAREST = 1.25; // Ends of the colour scale where all ratios are nearer to 1.
const STEPS = [1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100];

const along = (axis) => (axis ? valuesOf(axis).map((_, k) => k) : [0]);
const placesAt = (i, j) => ({ ...(state.up && { [state.up]: i }), ...(state.across && { [state.across]: j }) });
const grid = (of) => along(state.up).map((i) => along(state.across).map((j) => of(placesAt(i, j))));
const everyCell = () => grid((places) => places).flat();
const shownMachine = () => (state.shown.endsWith("second") ? state.second : state.first);
const machines = () => [state.first, state.second].filter((machine) => machine >= 0);

/** The map carried on from the middles of the outer cells to their edges. */
function toEdges(rows) {
  const wide = rows.map((row) => [row[0], ...row, row[row.length - 1]]);
  return [wide[0], ...wide, wide[wide.length - 1]];
}
const edges = (axis) => [-0.5, ...along(axis), along(axis).length - 0.5];

function placeAxis(axis) {
  if (!axis) return axisStyle("", { showticklabels: false, showgrid: false });
  const values = valuesOf(axis);
  const step = Math.ceil(values.length / MOST_TICKS);
  const ticks = along(axis).filter((k) => k % step === 0);
  const title = plain(told.axes[axis].title);
  return axisStyle(title, {
    tickvals: ticks, ticktext: ticks.map((k) => plain(values[k])), range: [-0.5, values.length - 0.5], showgrid: false,
  });
}

/** What one accelerator does in a cell, in lines of words. */
function cellWords(machine, places) {
  const variable = told.variables[state.variable];
  const found = [worded(value(state.variable, machine, places), variable.units)];
  if (variable.ends) {
    const [low, high] = variable.ends.map((end) => worded(value(end, machine, places), variable.units));
    found.push(`90 %: ${low} to ${high}`);
  }
  const binds = binding(machine, places);
  if (binds) found.push(`${binds} binds`);
  if (!runs(machine, places)) found.push("cannot run");
  return found;
}

function hoverText(places) {
  const at = Object.entries(places).map(([axis, k]) => `${spaced(axis)} ${digits(valuesOf(axis)[k], 9)}`);
  const rows = machines().map((machine) => `<b>${plain(nameOf(machine))}</b>: ${cellWords(machine, places).map(plain).join(", ")}`);
  const ratio = state.second >= 0 ? [`ratio ${digits(ratioOf(places), 3)}`] : [];
  return [at.map(plain).join(", "), ...rows, ...ratio].join("<br>");
}

function ratioTrace() {
  const rows = grid((places) => Math.log2(ratioOf(places)));
  const spread = Math.max(...rows.flat().filter(Number.isFinite).map(Math.abs), Math.log2(NEAREST));
  const reached = STEPS.filter((step) => Math.log2(step) <= spread * 1.001).slice(isNarrow() ? -2 : -3);
  const ticks = [...reached.map((step) => 1 / step).reverse(), 1, ...reached];
  const better = told.variables[state.variable].better;
  const what = better ? `advantage of ${plain(nameOf(state.first))} (ratio)` : `${plain(nameOf(state.first))} over ${plain(nameOf(state.second))} (ratio)`;
  return {
    rows, colorscale: diverging(), zmin: -spread, zmax: spread,
    colorbar: bar(what, ticks.map(Math.log2), ticks.map((tick) => digits(tick, 3))),
  };
}

const isNarrow = () => document.getElementById("map").clientWidth < NARROW && !print.matches;

/** A colour bar, beside a wide map and above a narrow one. */
function bar(title, tickvals, ticktext) {
  const lying = { orientation: "h", y: 1.02, yanchor: "bottom", title: { text: title, side: "top" } };
  const standing = { title: { text: title, side: "right" } };
  return { tickvals, ticktext, tickangle: 0, thickness: 16, outlinewidth: 0, ...(isNarrow() ? lying : standing) };
}

function valueTrace(machine) {
  const rows = grid((places) => value(state.variable, machine, places));
  const there = rows.flat().filter((number) => Number.isFinite(number) && number > 0);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const { factor, name } = scaleFor(there.length ? high : 1, told.variables[state.variable].units);
  const ticks = there.length ? [0, 0.25, 0.5, 0.75, 1].map((share) => low * (high / low) ** share) : [];
  const title = `${plain(spaced(state.variable))}${name ? ` (${name})` : ""}`;
  return {
    rows: rows.map((row) => row.map((number) => (number > 0 ? Math.log10(number) : NaN))), colorscale: "Cividis",
    colorbar: bar(title, ticks.map(Math.log10), ticks.map((tick) => digits(tick * factor, 3))),
  };
}

/** Which resource binds where, in the colours of the resources. */
function boundTrace(machine) {
  const colours = BOUNDS.flatMap((what, k) => [[k / 3, bindColour(what)], [(k + 1) / 3, bindColour(what)]]);
  return {
    rows: grid((places) => BOUNDS.indexOf(binding(machine, places))).map((row) => row.map((code) => (code < 0 ? NaN : code))),
    colorscale: colours, zmin: -0.5, zmax: 2.5, colorbar: bar(`what binds on ${plain(nameOf(machine))}`, [0, 1, 2], isNarrow() ? ["memory", "compute", "link"] : BOUNDS),
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

/** Lines where what binds changes, of each accelerator that is shown. */
function boundLines() {
  const shown = state.shown === "ratio" ? machines() : [shownMachine()];
  return shown.flatMap((machine, k) => {
    const rows = grid((places) => binding(machine, places));
    const present = [...new Set(rows.flat().filter(Boolean))];
    return present.slice(1).map((what) => contour(rows.map((row) => row.map((one) => Number(one === what))), 0.5, {
      name: plain(`${nameOf(machine)}: edge of where ${what} binds`),
      line: { dash: k ? "dot" : "dash", width: 2, color: isDark() ? "#f5f5f5" : "#222222" },
    }));
  });
}

/** Hatching over the cells that a rule holds for, a bar for each run of them in a row. */
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

/** Hatching over what cannot run, on either accelerator or on one of them. */
function incapable() {
  if (state.shown !== "ratio") return [hatching("cannot run", "/", (places) => !runs(shownMachine(), places))];
  const able = (places) => machines().map((machine) => runs(machine, places));
  return [
    hatching("runs on neither", "/", (places) => !able(places).some(Boolean)),
    ...machines().map((machine, k) => hatching(`runs on ${nameOf(machine)} alone`, k ? "." : "-", (places) => able(places)[k] && !able(places)[1 - k])),
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
    type: "scatter", mode: "markers", name: "chosen cell", x: [state.places[state.across] ?? 0], y: [state.places[state.up] ?? 0],
    hoverinfo: "skip", marker: { symbol: "square-open", size: 15, line: { width: 3 }, color: isDark() ? "#ff7ac2" : "#c2006b" },
  };
  const blank = incapable().filter((trace) => trace.x.length);
  const drawn = draw("map", [cells, ...blank, ...boundLines(), ...even, chosen], {
    xaxis: placeAxis(state.across), yaxis: placeAxis(state.up), barmode: "overlay", margin: { t: isNarrow() ? 104 : MARGIN.t },
  });
  drawn.on("plotly_click", ({ points: [point] }) => {
    for (const [axis, k] of [[state.across, point.x], [state.up, point.y]]) if (axis) state.places[axis] = Math.round(k);
    drawAll();
  });
}

function drawHint() {
  const { title, comment, better } = told.variables[state.variable];
  const way = better && state.shown === "ratio" ? ` Above 1, ${nameOf(state.first)} is ahead.` : "";
  document.getElementById("map-hint").textContent =
    `${state.variable}: ${title}. ${comment}${way} Point at a cell for its figures; click it, or choose it below, to take it apart.`;
}

function drawReadout() {
  const variable = told.variables[state.variable];
  const mask = state.variable.startsWith("inflight_") ? "inflight_" : state.variable.startsWith("ttft") ? "ttft_" : "";
  const why = state.variable.startsWith("inflight_") ? "inflight_infeasible_reason" : "infeasible_reason";
  const head = ["chosen cell", variable.title, ...(variable.ends ? ["90 % interval"] : []), "what binds", "can run"];
  const rows = machines().map((machine) => {
    const reasons = meanings(why, value(why, machine, {})).map(spaced).join(", ");
    const ends = variable.ends?.map((end) => worded(value(end, machine, {}), variable.units)).join(" to ");
    const beyond = meanings(`${mask}extrapolation`, value(`${mask}extrapolation`, machine, {})).map(spaced).join(", ");
    return [
      nameOf(machine), worded(value(state.variable, machine, {}), variable.units),
      ...(variable.ends ? [ends + (beyond ? ` (${beyond})` : "")] : []), binding(machine, {}) ?? "not told",
      runs(machine, {}) ? "yes" : `no${reasons ? `: ${reasons}` : ""}`,
    ];
  });
  if (state.second >= 0) rows.push(["ratio", digits(ratioOf({}), 3), ...head.slice(2).map(() => "")]);
  fillTable(document.getElementById("readout"), head, rows);
}
