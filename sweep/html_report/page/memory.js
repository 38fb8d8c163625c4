// Memory of one GPU in the chosen cell, as bars up to what the device has.

const SHADES = ["#0072b2", "#e69f00", "#009e73", "#a9d8c8", "#8a8f98"];

/** Parts of the memory of an accelerator in the chosen cell, and what the device has. */
function memoryOf(machine) {
  if (data.memory) return data.memory[nameOf(machine)];
  const [weights, cache, all] = ["weight_memory", "kv_cache_memory", "memory_required"].map((name) => value(name, machine, {}));
  const device = data.hardware[nameOf(machine)]?.memory;
  if (![weights, cache, all].every(Number.isFinite) || !device) return null;
  return { device, parts: [["weights", weights], ["KV cache of the batch", cache], ["activations and buffers", Math.max(all - weights - cache, 0)]] };
}

function drawMemory() {
  const found = machines().map(memoryOf);
  document.getElementById("memory-section").hidden = !found.every(Boolean);
  if (!found.every(Boolean)) return;
  const names = machines().map((machine) => plain(nameOf(machine)));
  const most = Math.max(...found.map(({ device, parts }) => Math.max(device, parts.reduce((sum, [, bytes]) => sum + bytes, 0))));
  const titles = found[0].parts.map(([title]) => title);
  const traces = titles.map((title, k) => ({
    type: "bar", orientation: "h", name: title, y: names, x: found.map(({ parts }) => parts[k][1] / 1e9), marker: { color: SHADES[k] },
    hovertemplate: "%{y}: %{x:.4g} GB<extra>%{fullData.name}</extra>",
  }));
  const devices = {
    type: "scatter", mode: "markers", name: "device memory", y: names, x: found.map(({ device }) => device / 1e9),
    marker: { symbol: "line-ns-open", size: 34, line: { width: 3 }, color: colour("text") }, hovertemplate: "%{y}: %{x:.4g} GB<extra>device</extra>",
  };
  draw("memory", [...traces, devices], {
    barmode: "stack", xaxis: axisStyle("GB", { range: [0, 1.05 * most / 1e9] }), yaxis: axisStyle("", { autorange: "reversed", tickvals: names, ticktext: names }), margin: { t: 8 }, modebar: { remove: ["zoom", "pan", "zoomin", "zoomout", "resetscale"] },
    legend: { orientation: "h", traceorder: "normal", yref: "container", y: 0, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
  });
  const said = found.map(({ device, parts }, k) => {
    const sum = parts.reduce((total, [, bytes]) => total + bytes, 0);
    return `${nameOf(machines()[k])}: ${worded(sum, "byte")} of ${worded(device, "byte")}`;
  });
  document.getElementById("memory-hint").textContent = `${said.join("; ")}.`;
}
