// Quality of the calibration behind the figures.

const MANY = 200; // Points beyond which they are drawn small.
const TABLES = {
  accuracy: "Errors on rows that the fit had not seen",
  intervals: "90 % intervals as factors on a prediction, by what is new about a deployment",
  groups: "Errors by accelerator, with the row's own configuration left out of the fit",
  factors: "Pooled factors, and how well the rows determine them",
};

let tabled = ""; // The tables that the page has, as JSON.

function drawQuality() {
  const quality = data.quality;
  document.getElementById("quality-hint").textContent = quality
    ? `Predicted by ${quality.title}.`
    : data.bounded ? "No calibration was used. The figures are bounds that the hardware allows; software reaches less." : "";
  document.getElementById("scatter").hidden = !quality || !quality.machines.length;
  const element = document.getElementById("quality");
  const asked = JSON.stringify(Object.keys(TABLES).map((name) => quality?.[name]));
  if (asked === tabled) return;
  tabled = asked;
  element.replaceChildren();
  if (!quality) return;
  for (const [name, title] of Object.entries(TABLES)) {
    if (!quality[name].length) continue;
    const heading = document.createElement("h3");
    heading.textContent = title;
    const table = document.createElement("table");
    const frame = document.createElement("div");
    frame.className = "wide";
    frame.append(table);
    const head = [...new Set(quality[name].flatMap(Object.keys))];
    fillTable(table, head.map(spaced), quality[name].map((row) => head.map((key) => row[key] ?? "")));
    element.append(heading, frame);
  }
}

function drawScatter(quality) {
  const [measured, predicted, codes] = [quality.measured, quality.predicted, quality.hardware].map((note) => [...numbers(note)]);
  const ends = [Math.min(...measured), Math.max(...measured)];
  const line = (factor, name, dash) => ({ type: "scatter", mode: "lines", name, x: ends, y: ends.map((end) => end * factor), line: { color: colour("faint"), dash, width: 1 }, hoverinfo: "skip", showlegend: Boolean(name) });
  const rows = {
    type: "scatter", mode: "markers", name: "measurements", x: measured, y: predicted, marker: { size: measured.length > MANY ? 4 : 9, opacity: measured.length > MANY ? 0.5 : 0.9, color: lines()[0] },
    text: codes.map((code) => plain(quality.machines[code])), hovertemplate: "%{text}<br>measured %{x:.4s}, predicted %{y:.4s}<extra></extra>",
  };
  draw("scatter", [rows, line(1, "equal", "solid"), line(0.8, "20 % low, 25 % high", "dash"), line(1.25, "", "dash")], {
    xaxis: axisStyle("measured output (tokens/s)", logTicks(measured)),
    yaxis: axisStyle("predicted output (tokens/s)", logTicks(predicted)),
  });
}
