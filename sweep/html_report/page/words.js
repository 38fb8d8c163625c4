// Numbers and names in words.

const SCALES = {
  s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]],
  byte: [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]],
  "s-1": [[1e12, "10¹²/s"], [1e9, "10⁹/s"], [1e6, "10⁶/s"], [1e-3, "1/s"]],
  "1": [[1e12, "10¹²"], [1e9, "10⁹"], [1e6, "10⁶"], [1e-3, ""]],
  J: [[1, "J"], [1e-3, "mJ"]],
  "byte-1": [[1e-3, "1/byte"]],
  flop: [[1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1, "FLOP"]],
};
const ONE = 1e-3; // Scales from here on stand for 1.

/** Factor and name of the unit in which a size is best read. */
function scaleFor(size, units) {
  const scales = SCALES[units] ?? [[ONE, units]];
  const [least, name] = scales.find(([from]) => size >= from) ?? scales[scales.length - 1];
  return { factor: least === ONE && units !== "s" && units !== "J" ? 1 : 1 / least, name };
}

const formats = [];

/** Some significant digits, with separators. */
function digits(number, most = 4) {
  if (!Number.isFinite(number)) return "–";
  if (number === 0) return "0";
  if (Math.abs(number) >= 1e7 || Math.abs(number) < 1e-4) return number.toExponential(most - 1);
  formats[most] ??= new Intl.NumberFormat("en-GB", { maximumSignificantDigits: most });
  return formats[most].format(number);
}

/** A number with its unit. */
function worded(number, units) {
  if (!Number.isFinite(number)) return "–";
  const { factor, name } = scaleFor(Math.abs(number), units);
  return name === "1/s" ? `${digits(number)}/s` : `${digits(number * factor)} ${name}`.trim();
}

/** A name as Plotly takes it, which reads some of HTML and of TeX in texts. */
function plain(text) {
  return String(text)
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&#34;").replaceAll("$", "&#36;");
}

const spaced = (name) => name.replaceAll("_", " ");

/** How much better the first accelerator does; the plain ratio where neither way is better. */
function ratioOf(places) {
  const [first, second] = [value(state.variable, state.first, places), value(state.variable, state.second, places)];
  return told.variables[state.variable].better === "lower" ? second / first : first / second;
}

/** Whether the 90 % intervals of the two overlap, where there are any. */
function overlap(places) {
  const ends = told.variables[state.variable].ends;
  if (!ends) return false;
  const [low, high] = ends.map((end) => value(end, state.first, places));
  const [otherLow, otherHigh] = ends.map((end) => value(end, state.second, places));
  return low <= otherHigh && otherLow <= high;
}

/** Which accelerator is ahead on the map, in a sentence. */
function answer() {
  const variable = told.variables[state.variable];
  const model = valuesOf("model")[state.places.model];
  const by = told.about.efficiency === "ideal" ? "as bounds" : `as ${told.about.efficiency.split(" ")[0]} delivers`;
  if (state.second < 0) return `${model}: ${variable.title} on ${nameOf(state.first)}, ${by}.`;
  const [first, second] = [nameOf(state.first), nameOf(state.second)];
  const all = everyCell();
  const known = all.filter((places) => Number.isFinite(ratioOf(places)));
  const both = known.filter((places) => runs(state.first, places) && runs(state.second, places));
  const judged = both.length ? both : known;
  if (!variable.better) return `${model}: ${variable.title}, ${first} over ${second}.`;
  if (!judged.length) return `${model}: no cell can run on both ${first} and ${second}${alone(all)}.`;
  const ratios = judged.map(ratioOf);
  const wins = ratios.filter((ratio) => ratio > 1).length;
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  const times = (ratio) => digits(ratio, 3);
  const span = (least, most) => [...new Set([times(least), times(most)])].join(" to ");
  let verdict;
  if (low === 1 && high === 1) verdict = "the two are level";
  else if (wins === ratios.length) verdict = `${first} is ahead everywhere, by ${span(low, high)} times`;
  else if (!wins) verdict = `${second} is ahead everywhere, by ${span(1 / high, 1 / low)} times`;
  else {
    const share = digits((100 * wins) / ratios.length, 2);
    verdict = `${first} is ahead in ${share} % of ${judged.length} cells, by up to ${times(high)} times; ` +
      `${second} in the others, by up to ${times(1 / low)} times`;
  }
  if (variable.ends) {
    const close = judged.filter(overlap).length / judged.length;
    verdict += `; in ${digits(100 * close, 2)} % of the cells their 90 % intervals overlap`;
  }
  if (!both.length) verdict += "; but no cell can run on both, so this is arithmetic, not an offer";
  else if (both.length < all.length) verdict += `; ${all.length - both.length} of ${all.length} cells cannot run on both`;
  return `${model}, ${variable.title}, ${by}: ${verdict}${alone(all)}.`;
}

function alone(all) {
  const able = all.map((places) => [runs(state.first, places), runs(state.second, places)]);
  const count = (one) => able.filter((pair) => pair[one] && !pair[1 - one]).length;
  return [0, 1].filter(count)
    .map((one) => `, ${count(one)} run on ${nameOf([state.first, state.second][one])} alone`).join("");
}
