// Rooflines of the chosen accelerators, with the operators of the chosen cell.

const FAR = 50; // Intensity beyond which a name is written to the left of its mark. [FLOP/byte]
const BEYOND = 12; // The roof extends this many ridges to the right, to leave room for names.

function roofTraces(machine, precision, low, high) {
  return Object.entries(machine.peaks[precision] ?? {}).map(([dtype, peak], k) => {
    const ridge = peak / machine.bandwidth;
    const x = [low, ridge, Math.max(high, ridge * BEYOND)];
    return {
      type: "scatter", mode: "lines", name: `${plain(dtype)}: ${digits(peak / 1e12, 3)} TFLOP/s, ridge at ${digits(ridge, 3)}`,
      x, y: x.map((intensity) => Math.min(peak, intensity * machine.bandwidth) / 1e12),
      line: { color: colour("text"), width: 2, dash: ["solid", "dash", "dot"][k] }, hoverinfo: "name",
    };
  });
}

function operatorTraces(machine) {
  return data.layers.phases.map(({ name: phase, short }, order) => {
    const nodes = nodesOf(phase, machine).filter((node) => node.flops > 0 && node.bytes > 0 && node.seconds > 0);
    const whole = nodes.reduce((sum, node) => sum + node.seconds, 0);
    const longest = [...nodes].sort((a, b) => b.seconds - a.seconds)[0];
    return {
      type: "scatter", mode: "markers+text", name: short, x: nodes.map((node) => node.flops / node.bytes),
      y: nodes.map((node) => node.flops / node.seconds / 1e12),
      marker: {
        symbol: order ? "diamond-open" : "circle", color: nodes.map((node) => bindColour(node.bound)),
        size: nodes.map((node) => 7 + 20 * Math.sqrt(node.seconds / whole)), line: { width: 2 }, opacity: 0.85,
      },
      text: nodes.map((node) => (node === longest ? plain(spaced(node.name)) : "")), cliponaxis: false,
      textposition: nodes.map((node) => (node.bound === "compute" || node.flops / node.bytes > FAR ? "bottom left" : "bottom right")),
      customdata: nodes.map((node) => `<b>${plain(spaced(node.name))}</b>, ${short}<br>${worded(node.seconds, "s")}, bound by ${node.bound}<br>` +
        `${worded(node.flops, "flop")}, ${worded(node.bytes, "byte")}, ${digits(node.flops / node.bytes, 3)} FLOP/byte`),
      hovertemplate: "%{customdata}<extra></extra>",
    };
  });
}

function drawRoofline(id, index) {
  const name = nameOf(index);
  const machine = data.hardware[name];
  const element = document.getElementById(id);
  const points = operatorTraces(index);
  const seen = points.flatMap((trace) => trace.x);
  if (!machine || !seen.length) {
    Plotly.purge(element);
    element.style.minHeight = 0;
    element.textContent = `${name}: no roofline, because its specification is missing.`;
    return;
  }
  if (!element.data) element.replaceChildren();
  element.style.minHeight = "";
  const precision = valuesOf("precision")[state.indices.precision];
  draw(id, [...roofTraces(machine, precision, Math.min(...seen) / 2, 2 * Math.max(...seen)), ...points], {
    title: { text: plain(name), font: { size: 14 } }, margin: { t: 40 },
    xaxis: axisStyle("arithmetic intensity (FLOP/byte)", logTicks(seen)),
    yaxis: axisStyle("rate of one GPU (TFLOP/s)", logTicks(points.flatMap((trace) => trace.y))),
  });
}

function drawRooflines() {
  document.getElementById("roofline-hint").textContent =
    `${cellTitle()} Larger marks take longer. Blue: bound by memory; orange: by compute; green: by exchange between GPUs. ` +
    "Operators on the vector units, such as norms, stay below the roof of the matrix units." +
    (data.bounded ? "" : " Fitted factors can place an operator above it.");
  drawRoofline("roofline-first", state.first);
  document.getElementById("roofline-second").hidden = state.second < 0;
  if (state.second >= 0) drawRoofline("roofline-second", state.second);
}
