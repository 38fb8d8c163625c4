// Rooflines of the chosen accelerators, with the operators of the chosen cell.

const ALONG = 80; // Marks by which labels keep away from a roof.
const BEYOND = 12; // The roof extends this many ridges to the right, and
const BESIDE_LAST = 6; // this many times the highest intensity, to leave room for names.

/** Rate at an intensity under a peak. [TFLOP/s] */
const roofAt = (machine, peak, intensity) => Math.min(peak, intensity * machine.bandwidth) / 1e12;
const peaksOf = (machine) => Object.entries(machine.peaks[valuesOf("precision")[state.indices.precision]] ?? {});

function roofTraces(machine, [low, high]) {
  return peaksOf(machine).map(([dtype, peak], k) => {
    const x = [low, peak / machine.bandwidth, high];
    return {
      type: "scatter", mode: "lines", name: `${plain(dtype)}: ${digits(peak / 1e12, 3)} TFLOP/s, ridge at ${digits(x[1], 3)}`,
      x, y: x.map((intensity) => roofAt(machine, peak, intensity)),
      line: { color: colour("text"), width: 2, dash: ["solid", "dash", "dot"][k] }, hoverinfo: "name",
    };
  });
}

/** Operators with an intensity and a rate, with their coordinates and the size of their mark. */
function markedNodes(phase, machine) {
  const nodes = nodesOf(phase, machine).filter((node) => node.flops > 0 && node.bytes > 0 && node.seconds > 0);
  const whole = nodes.reduce((sum, node) => sum + node.seconds, 0);
  return nodes.map((node) => ({
    ...node, x: node.flops / node.bytes, y: node.flops / node.seconds / 1e12, mark: 7 + 20 * Math.sqrt(node.seconds / whole),
  }));
}

function operatorTrace(nodes, short, order) {
  const of = (name) => nodes.map((node) => node[name]);
  return {
    type: "scatter", mode: "markers", name: short, x: of("x"), y: of("y"),
    marker: { symbol: order ? "diamond-open" : "circle", color: nodes.map((node) => bindColour(node.bound)), size: of("mark"), line: { width: 2 }, opacity: 0.85 },
    customdata: nodes.map((node) => `<b>${plain(spaced(node.name))}</b>, ${short}<br>${worded(node.seconds, "s")}, bound by ${node.bound ?? "overhead"}<br>` +
      `${worded(node.flops, "flop")}, ${worded(node.bytes, "byte")}, ${digits(node.x, 3)} FLOP/byte`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

/** Names of the longest operator of each phase; those of prompts, which have less room, are placed first. */
function operatorLabels(machine, phases, frame) {
  const longest = phases.map((nodes) => [...nodes].sort((a, b) => b.seconds - a.seconds)[0]);
  const wanted = longest.reverse().filter(Boolean).map((node) => ({
    ...node, text: plain(spaced(node.name)).replace(" projection", "<br>projection"), size: 12, colour: colour("text"), side: "bottom right",
  }));
  const [low, high] = frame.x;
  const intensities = Array.from({ length: ALONG }, (_, k) => 10 ** (low + ((high - low) * k) / ALONG));
  const roofs = peaksOf(machine).flatMap(([, peak]) => intensities.map((x) => ({ x, y: roofAt(machine, peak, x) })));
  return labelTrace(wanted, [...phases.flat(), ...roofs], frame);
}

function drawRoofline(id, index) {
  const name = nameOf(index);
  const machine = data.hardware[name];
  const element = document.getElementById(id);
  const phases = data.layers.phases.map((phase) => markedNodes(phase.name, index));
  const [seen, rates] = ["x", "y"].map((axis) => phases.flat().map((node) => node[axis]));
  if (!machine || !seen.length) {
    Plotly.purge(element);
    element.style.minHeight = 0;
    element.textContent = `${name}: no roofline, because its specification is missing.`;
    return;
  }
  if (!element.data) element.replaceChildren();
  element.style.minHeight = "";
  const peaks = peaksOf(machine).map(([, peak]) => peak);
  const ends = [Math.min(...seen) / 2, Math.max(BESIDE_LAST * Math.max(...seen), ...peaks.map((peak) => (peak / machine.bandwidth) * BEYOND))];
  const roofs = roofTraces(machine, ends);
  const [x, y] = [rangeOf(ends, 0), rangeOf([...rates, ...roofs.flatMap((trace) => trace.y)])];
  const yaxis = axisStyle("rate of one GPU (TFLOP/s)", { ...logTicks(rates), range: y });
  const points = phases.map((nodes, order) => operatorTrace(nodes, data.layers.phases[order].short, order));
  draw(id, [...roofs, ...points, operatorLabels(machine, phases, { x, y, ...innerSize(id, yaxis) })], {
    title: { text: plain(name), font: { size: 14 } }, margin: { t: 40 }, yaxis,
    xaxis: axisStyle("arithmetic intensity (FLOP/byte)", { ...logTicks(seen), range: x }),
  });
}

function drawRooflines() {
  document.getElementById("roofline-hint").textContent =
    `${cellTitle()} Larger marks take longer. Blue: bound by memory; orange: by compute; green: by exchange between GPUs${data.bounded ? "" : "; grey: mostly overhead"}. ` +
    "Operators on the vector units, such as norms, stay below the roof of the matrix units." +
    (data.bounded ? "" : " Fitted factors can place an operator above it.");
  drawRoofline("roofline-first", state.first);
  document.getElementById("roofline-second").hidden = state.second < 0;
  if (state.second >= 0) drawRoofline("roofline-second", state.second);
}
