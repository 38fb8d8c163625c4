// Labels of points in plots with two logarithmic axes: none covers another, and few cover marks.

const LETTER = 0.58; // Width of a letter of a label, relative to its size.
const LINE_HEIGHT = 1.3; // Distance of two lines of a label, relative to its size.
const MARK = 8; // Usual size of a mark, in pixels.
const APART = 4; // Least distance of two labels, in pixels.
const OVER = 12; // Labels may extend this far beyond the plot, in pixels.
const SIDES = { // By name, where a label is: right or left, below or above.
  "top right": [1, -1], "bottom left": [-1, 1], "bottom right": [1, 1], "top left": [-1, -1],
  "bottom center": [0, 1], "top center": [0, -1], "middle right": [1, 0], "middle left": [-1, 0],
};

/** Range of a logarithmic axis that leaves room beside the outer numbers. */
function rangeOf(numbers, room = 0.05) {
  const logs = numbers.filter((number) => number > 0 && number < Infinity).map(Math.log10);
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const pad = room * (high - low) + 0.02;
  return [low - pad, high + pad];
}

/** Box of a label beside the mark of a point, in pixels, as Plotly places it. */
function boxBeside({ text, size, mark = MARK }, [left, top], [across, down]) {
  const away = mark / 1.6 + 1;
  const rows = text.split("<br>");
  const wide = LETTER * size * Math.max(...rows.map((row) => row.length));
  const high = size * (1 + LINE_HEIGHT * (rows.length - 1));
  const x = left + across * away - (wide * (1 - across)) / 2;
  const y = top + down * away - (high * (1 - down)) / 2;
  return { left: x, right: x + wide, top: y, bottom: y + high };
}

const meet = (a, b) => a.left < b.right + APART && b.left < a.right + APART && a.top < b.bottom + APART && b.top < a.bottom + APART;

/**
 * A trace of labels. Each is on the side where it covers the fewest marks, the preferred one first; it is
 * left out where each side covers another label. Texts are never empty: Plotly.react loses those that were.
 */
function labelTrace(points, marks, { x, y, width, height }) {
  const at = (point) => [((Math.log10(point.x) - x[0]) / (x[1] - x[0])) * width, ((y[1] - Math.log10(point.y)) / (y[1] - y[0])) * height];
  const dots = marks.map(at);
  const boxes = [];
  const placed = [];
  for (const point of points) {
    let best = null;
    for (const side of [point.side, ...Object.keys(SIDES)]) {
      const box = boxBeside(point, at(point), SIDES[side]);
      const inside = box.left > -OVER && box.right < width + OVER && box.top > -OVER && box.bottom < height;
      if (!inside || boxes.some((one) => meet(one, box))) continue;
      const covered = dots.filter(([left, top]) => left > box.left && left < box.right && top > box.top && top < box.bottom).length;
      if (!best || covered < best.covered) best = { box, side, covered };
    }
    if (!best) continue;
    boxes.push(best.box);
    placed.push({ ...point, side: best.side });
  }
  const of = (name) => placed.map((point) => point[name]);
  return {
    type: "scatter", mode: "markers+text", x: of("x"), y: of("y"), text: of("text"), textposition: of("side"),
    textfont: { size: of("size"), color: of("colour") }, marker: { opacity: 0, size: placed.map(({ mark = MARK }) => mark) }, cliponaxis: false, hoverinfo: "skip", showlegend: false,
  };
}
