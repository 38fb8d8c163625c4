// Throughput per user against throughput per GPU, and the Pareto front of the two.

const MOST_FRONTS = 6;
const ROOM = 60; // Width to the right of the front for a label, in pixels.

/** A point for every cell of the chosen model, precision and lengths. */
function pointsOf(machine) {
  const { per_user: user, per_gpu: gpu } = data.front;
  const fixed = ["model", "precision", "context_len", "isl", "osl"];
  const free = user.dims.filter((dim) => dim !== "hardware" && !fixed.includes(dim));
  let cells = [{}];
  for (const dim of free) cells = cells.flatMap((cell) => valuesOf(dim).map((_, k) => ({ ...cell, [dim]: k })));
  return cells
    .map((cell) => ({ cell, machine, x: figure(user, { ...state.indices, hardware: machine, ...cell }), y: figure(gpu, { ...state.indices, hardware: machine, ...cell }) }))
    .filter((point) => point.x > 0 && point.y > 0);
}

/** The points on the Pareto front. */
function frontOf(points) {
  const sorted = [...points].sort((a, b) => b.x - a.x || b.y - a.y);
  let best = 0;
  return sorted.filter((point) => point.y > best && (best = point.y));
}

const pointWords = (point) => [
  `<b>${plain(nameOf(point.machine))}</b>`,
  Object.entries(point.cell).filter(([axis]) => valuesOf(axis).length > 1).map(([axis, k]) => plain(`${spaced(axis)} ${labelled(valuesOf(axis)[k])}`)).join(", "),
  `${digits(point.x)} tokens/s for one user, ${digits(point.y)} tokens/s per GPU`,
].join("<br>");

const LAYOUT = ["tp", "pp", "ep", "dp_attention"];

/** Precision and layout of a point. */
function layoutWords({ cell }) {
  const at = { ...state.indices, ...cell };
  const widths = LAYOUT.filter((axis) => data.axes[axis] && (axis === "tp" || valuesOf(axis)[at[axis]] > 1));
  const precision = data.axes.precision ? [valuesOf("precision")[at.precision]] : [];
  return plain([...precision, ...widths.map((axis) => `${spaced(axis)} ${valuesOf(axis)[at[axis]]}`)].join(" "));
}

/** Points of a front whose precision or layout is not that of the one before, labelled. */
function changesOf(front, colour, side) {
  const texts = front.map(layoutWords);
  return front.map(({ x, y }, k) => ({ x, y, text: texts[k], size: 11, colour, side })).filter((_, k) => texts[k] !== texts[k - 1]);
}

function drawFront() {
  const every = along("hardware").map((machine) => pointsOf(machine));
  const whole = frontOf(every.flat());
  const order = [...machines(), ...along("hardware").filter((machine) => !machines().includes(machine))].slice(0, MOST_FRONTS);
  const fronts = order.map((machine) => frontOf(every[machine]));
  const traces = order.flatMap((machine, k) => {
    const front = fronts[k];
    const look = { color: lines()[k], symbol: SYMBOLS[k] };
    return [
      { type: "scatter", mode: "markers", x: every[machine].map((p) => p.x), y: every[machine].map((p) => p.y), marker: { ...look, size: 4, opacity: 0.35 }, hoverinfo: "skip", showlegend: false },
      {
        type: "scatter", mode: "lines+markers", name: plain(nameOf(machine)), x: front.map((p) => p.x), y: front.map((p) => p.y),
        marker: { ...look, size: 8 }, line: { color: lines()[k] }, customdata: front.map(pointWords), hovertemplate: "%{customdata}<extra></extra>",
      },
    ];
  });
  const best = { type: "scatter", mode: "lines", name: "front of all accelerators", x: whole.map((p) => p.x), y: whole.map((p) => p.y), line: { color: colour("text"), dash: "dot", width: 3 }, hoverinfo: "skip" };
  const [across, up] = [every.flat().map((p) => p.x), every.flat().map((p) => p.y)];
  const [x, y] = [rangeOf(across), rangeOf(up)];
  const yaxis = axisStyle("output of one GPU (tokens/s)", { ...logTicks(up), range: y });
  const size = innerSize("front", yaxis);
  x[1] += ((x[1] - x[0]) * ROOM) / (size.width - ROOM);
  const wanted = fronts.slice(0, machines().length).flatMap((front, k) => changesOf(front, lines()[k], k ? "bottom left" : "top right"));
  const labels = labelTrace(wanted, fronts.flat(), { x, y, ...size });
  draw("front", [...traces, best, labels], { xaxis: axisStyle("output of one user (tokens/s)", { ...logTicks(across), range: x }), yaxis });
  const at = ["precision", "context_len", "isl", "osl"].filter((axis) => data.front.per_user.dims.includes(axis)).map((axis) => `${spaced(axis)} ${valuesOf(axis)[state.indices[axis]]}`);
  const what = [valuesOf("model")[state.indices.model], ...at].join(", ");
  document.getElementById("front-hint").textContent = whole.length
    ? `${what}; ${data.front.title}. Up and to the right is better. Only cells that can run are shown.`
    : `${what}: no cell can run.`;
}
