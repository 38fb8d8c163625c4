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
const ONE = 1e-3; // Factor of units without a prefix.

/** Factor and name of the most readable unit for a size, or for a rate of what it counts, such as tokens. */
function scaleFor(size, units, counted) {
  const per = units === "s-1" ? "/s" : "";
  if (SCALES[counted]) {
    const { factor, name } = scaleFor(size, counted);
    return { factor, name: name + per };
  }
  if (per && counted) return { factor: 1, name: counted + per };
  const scales = SCALES[units] ?? [[ONE, units]];
  const [least, name] = scales.find(([from]) => size >= from) ?? scales[scales.length - 1];
  return { factor: least === ONE && units !== "s" && units !== "J" ? 1 : 1 / least, name };
}

const formats = [];

/** A number with at most so many significant digits and with separators. */
function digits(number, most = 4) {
  if (!Number.isFinite(number)) return "–";
  if (number === 0) return "0";
  if (Math.abs(number) >= 1e7 || Math.abs(number) < 1e-4) return number.toExponential(most - 1);
  formats[most] ??= new Intl.NumberFormat("en-GB", { maximumSignificantDigits: most });
  return formats[most].format(number);
}

/** A number with its unit; a rate is of what it counts, such as tokens. */
function worded(number, units, counted) {
  if (!Number.isFinite(number)) return "–";
  const { factor, name } = scaleFor(Math.abs(number), units, counted);
  return name === "1/s" ? `${digits(number)}/s` : `${digits(number * factor)} ${name}`.trim();
}

/** A value of a variable with its unit. */
const quantity = (variable, number) => worded(number, variable.units, variable.counted);

/** Escape a name for Plotly, which interprets some HTML and TeX. */
function plain(text) {
  return String(text)
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&#34;").replaceAll("$", "&#36;");
}

const spaced = (name) => name.replaceAll("_", " ");

/** Advantage of the first accelerator; the plain ratio where neither direction is better. */
function advantage(name, indices) {
  const [first, second] = [value(name, state.first, indices), value(name, state.second, indices)];
  return data.variables[name].better === "lower" ? second / first : first / second;
}
const ratioOf = (indices) => advantage(state.variable, indices);

/** Whether the 90 % intervals of the two overlap; false without intervals. */
function overlap(indices) {
  const ends = data.variables[state.variable].ends;
  if (!ends) return false;
  const [low, high] = ends.map((end) => value(end, state.first, indices));
  const [otherLow, otherHigh] = ends.map((end) => value(end, state.second, indices));
  return low <= otherHigh && otherLow <= high;
}

/** One sentence that says which accelerator is ahead on the map. */
function answer() {
  const variable = data.variables[state.variable];
  const model = valuesOf("model")[state.indices.model];
  const by = data.about.calibration === "ideal" ? "as bounds" : `predicted by ${data.about.calibration.split(" ")[0]}`;
  if (state.second < 0) return `${model}: ${variable.title} on ${nameOf(state.first)}, ${by}.`;
  const [first, second] = [nameOf(state.first), nameOf(state.second)];
  const all = everyCell();
  const known = all.filter((indices) => Number.isFinite(ratioOf(indices)));
  const both = known.filter((indices) => runs(state.first, indices) && runs(state.second, indices));
  const able = both.length ? both : known;
  const counted = able.filter((indices) => !machines().some((machine) => overloaded(machine, indices)));
  if (!variable.better) return `${model}: ${variable.title}, ${first} / ${second}.`;
  if (!able.length) return `${model}: no cell can run on both ${first} and ${second}${alone(all)}.`;
  if (!counted.length) return `${model}, ${variable.title}, ${by}: a server is overloaded in every cell${alone(all)}.`;
  const ratios = counted.map(ratioOf);
  const wins = ratios.filter((ratio) => ratio > 1).length;
  const losses = ratios.filter((ratio) => ratio < 1).length;
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  const times = (ratio) => digits(ratio, 3);
  const span = (least, most) => [...new Set([times(least), times(most)])].join(" to ");
  const where = variable.ends && !counted.some(overlap) ? "everywhere" : "in every cell";
  let verdict;
  if (low === 1 && high === 1) verdict = "the two are level";
  else if (wins === ratios.length) verdict = `${first} is ahead ${where}, by ${span(low, high)} times`;
  else if (losses === ratios.length) verdict = `${second} is ahead ${where}, by ${span(1 / high, 1 / low)} times`;
  else {
    const share = (count) => `${digits((100 * count) / ratios.length, 2)} %`;
    const level = wins + losses < ratios.length;
    const parts = wins ? [`${first} is ahead in ${share(wins)} of ${counted.length} cells, by up to ${times(high)} times`] : [];
    if (losses) {
      const cells = !wins ? `is ahead in ${share(losses)} of ${counted.length} cells` : level ? `in ${share(losses)}` : "in the others";
      parts.push(`${second} ${cells}, by up to ${times(1 / low)} times`);
    }
    verdict = [...parts, ...(level ? ["they are level in the others"] : [])].join("; ");
  }
  if (variable.ends) {
    const close = counted.filter(overlap).length / counted.length;
    verdict += `; in ${digits(100 * close, 2)} % of the cells their 90 % intervals overlap`;
  } else if (data.about.calibration !== "ideal") verdict += "; it has no interval, so small differences may be errors";
  if (counted.length < able.length) {
    verdict += `; ${able.length - counted.length} of ${all.length} cells do not count, as requests wait for a slot of an overloaded server`;
  }
  if (!both.length) verdict += "; no cell can run on both, so the comparison is theoretical";
  else if (both.length < all.length) verdict += `; ${all.length - both.length} of ${all.length} cells cannot run on both`;
  return `${model}, ${variable.title}, ${by}: ${verdict}${alone(all)}.`;
}

function alone(all) {
  const able = all.map((indices) => [runs(state.first, indices), runs(state.second, indices)]);
  const count = (one) => able.filter((pair) => pair[one] && !pair[1 - one]).length;
  return [0, 1].filter(count)
    .map((one) => `, ${count(one)} run on ${nameOf([state.first, state.second][one])} alone`).join("");
}
