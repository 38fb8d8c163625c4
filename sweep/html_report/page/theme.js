// Colours and sizes of the plots, from the style of the page: light, dark or print.

const dark = matchMedia("(prefers-color-scheme: dark)");
const print = matchMedia("print");
const PAGE_WIDTH = 680; // Printed width between the margins, in CSS pixels.
// ColorBrewer's PuOr, and the same with a dark middle; colour-blind readers can distinguish both.
const DIVERGING = ["#7f3b08", "#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac", "#542788", "#2d004b"];
const DIVERGING_DARK = ["#fee0b6", "#fdb863", "#e08214", "#a8590f", "#5e3613", "#26282d", "#3d3560", "#5f5191", "#8f83bd", "#b9b2d8", "#e4e2f1"];
// Okabe and Ito's palette; black and white follow the text.
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const LINES_DARK = ["#4aa3df", "#f08a3c", "#2fc79b", "#e39cc4", "#f2c14b", "#8fd0f5"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];

const isDark = () => dark.matches && !print.matches;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const scale = (colours) => colours.map((one, k) => [k / (colours.length - 1), one]);
const diverging = () => scale(isDark() ? DIVERGING_DARK : DIVERGING);
const lines = () => (isDark() ? LINES_DARK : LINES);
const bindColour = (what) => colour(what ?? "host");

/** Whether the space for the labels of an axis is measured, which takes as long as the picture itself. */
const isTight = () => isNarrow() || print.matches;

function axisStyle(title, more) {
  return {
    title: { text: title, standoff: 10 }, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false,
    tickfont: { size: TICK }, tickcolor: colour("line"), ticks: "outside", automargin: isTight(), ticklabeloverflow: "allow", ...more,
  };
}

/** Ticks at powers of ten, and between them where there are few. */
function logTicks(numbers) {
  const logs = numbers.filter((number) => number > 0 && number < Infinity).map(Math.log10);
  const [low, high] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  const decades = Math.max(...logs) - Math.min(...logs);
  const steps = decades > 2 ? [1] : decades > 0.7 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const tickvals = [];
  for (let power = low; power <= high; power += 1) for (const step of steps) tickvals.push(step * 10 ** power);
  return { type: "log", tickvals, ticktext: tickvals.map((tick) => digits(tick, 2)) };
}

const LEAST_HEIGHT = 0.75; // Share of the height of a plot that is left where its margins are measured.
const LEGEND_LINE = 20; // Heights and widths in pixels.
const MARGIN = { l: 64, r: 16, t: 32, b: 54 }; // The buttons are at the top.
const TICK = 12; // Size of the labels of ticks, whose digits are 0.6 times as wide.
const BESIDE = 46; // Width of the title of a vertical axis, and of the room around it.

/** Width of the labels of a vertical axis, its title included. */
const leftOf = (axis) => BESIDE + Math.max(0, ...(axis.ticktext ?? []).map((text) => 0.6 * TICK * text.length));

/** Number of lines of a legend below a plot. */
function legendLines(traces, width) {
  let [lines, left] = [0, 0];
  for (const { name } of traces.filter((trace) => trace.name && trace.showlegend !== false)) {
    const wide = 70 + 7.2 * name.length;
    if (wide > left) [lines, left] = [lines + 1, width - MARGIN.l];
    left -= wide;
  }
  return lines;
}

/** Width of a plot, margins included, in pixels. */
function widthOf(element) {
  const printed = element.parentElement.classList.contains("pair") ? PAGE_WIDTH / 2 - 6 : PAGE_WIDTH;
  return print.matches ? printed : element.clientWidth;
}
const heightOf = (element) => (element.classList.contains("tall") ? 400 : element.classList.contains("low") ? 110 : 310);
const leftMargin = (yaxis) => Math.max(MARGIN.l, leftOf(yaxis));

/** Size of a plot without margins, in pixels; at least, where those are measured. */
function innerSize(id, yaxis) {
  const element = document.getElementById(id);
  const height = heightOf(element) * (isTight() ? LEAST_HEIGHT : 1);
  return { width: widthOf(element) - leftMargin(yaxis) - MARGIN.r, height };
}

const drawn = {}; // By plot, the width class, colours and first kind of trace that it was last drawn with.

/** Draw a plot with its legend below, in the colours of the page; `clicked` takes a point. */
function draw(id, traces, { margin, ...layout }, clicked) {
  const element = document.getElementById(id);
  const width = widthOf(element);
  const below = LEGEND_LINE * legendLines(traces, width);
  const around = { ...MARGIN, l: isTight() ? MARGIN.l : leftMargin(layout.yaxis), ...margin };
  const whole = {
    width, height: heightOf(element) + around.t + around.b + below, margin: { ...around, b: around.b + below },
    paper_bgcolor: colour("back"), plot_bgcolor: colour("back"),
    font: { color: colour("text"), family: "system-ui, sans-serif", size: 13 },
    hoverlabel: { align: "left", bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text") } },
    showlegend: true, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
    ...layout,
    // The legend may need more lines than were counted, and would push the title into the labels.
    xaxis: { ...layout.xaxis, automargin: true },
  };
  const config = { displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  // Plotly.react is faster, but leaves the old colour bar when that moves from beside the map to above it.
  const kind = [isNarrow(), isDark(), traces[0].type].join();
  if (element.data && drawn[id] === kind) {
    Plotly.react(element, traces, whole, config);
    return;
  }
  drawn[id] = kind;
  Plotly.newPlot(element, traces, whole, config);
  if (clicked) element.on("plotly_click", ({ points: [point] }) => clicked(point));
}
