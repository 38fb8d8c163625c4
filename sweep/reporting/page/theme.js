// Colours and sizes of the pictures, from the page's style: light, dark or print.

const dark = matchMedia("(prefers-color-scheme: dark)");
const print = matchMedia("print");
const PAGE_WIDTH = 680; // Of a printed sheet between its margins, in CSS pixels.
// ColorBrewer's PuOr, and the same with a dark middle: told apart by colour-blind readers.
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

function axisStyle(title, more) {
  return {
    title: { text: title, standoff: 10 }, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false,
    tickcolor: colour("line"), ticks: "outside", automargin: true, ...more,
  };
}

function draw(id, traces, layout) {
  const whole = {
    paper_bgcolor: colour("back"), plot_bgcolor: colour("back"),
    font: { color: colour("text"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 64, r: 16, t: 36, b: 52 },
    hoverlabel: { align: "left", bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text") } },
    legend: { orientation: "h", y: -0.2, yanchor: "top", x: 0, bgcolor: "rgba(0,0,0,0)" },
    ...(print.matches ? { width: PAGE_WIDTH } : { autosize: true }), ...layout,
  };
  const config = { responsive: !print.matches, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  return Plotly.react(id, traces, whole, config);
}
