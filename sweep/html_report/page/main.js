// State of the page, its controls, and the first drawing.

const AMID = 0.7; // Share of the cells before the first choice: prefer a large batch.
let state = null;

function begin() {
  const { across, up, indices } = data.start;
  const { variable } = data;
  const all = Object.fromEntries(Object.keys(data.axes).map((axis) => [axis, indices[axis] ?? 0]));
  const second = valuesOf("hardware").length > 1 ? 1 : -1;
  return { variable, first: 0, second, shown: second < 0 ? "first" : "ratio", across, up, indices: all };
}

/** Choose the first cell: among those that run, and with a breakdown if any has one. */
function chooseCell() {
  const hasBreakdown = (indices) => Object.entries(indices)
    .every(([axis, k]) => !data.layers?.axes[axis] || data.layers.axes[axis].includes(valuesOf(axis)[k]));
  const cells = everyCell().filter(hasBreakdown);
  const able = cells.filter((indices) => machines().every((machine) => runs(machine, indices)));
  const from = able.length ? able : cells;
  Object.assign(state.indices, from[Math.floor(AMID * from.length)]);
}

/** A labelled selection list. */
function control(title, options, chosen, choose) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.id = `choose-${title.replaceAll(" ", "-")}`;
  for (const [value, text] of options) select.append(new Option(text, value, false, value === chosen));
  select.addEventListener("change", () => {
    choose(select.value);
    const { id } = select;
    drawAll();
    document.getElementById(id)?.focus();
  });
  label.append(title, select);
  return label;
}

const choices = (axis) => valuesOf(axis).map((value, k) => [String(k), String(labelled(value))]);

/** Choose a cell by an index along each of its axes; a live page asks for it. */
let choose = (indices) => {
  Object.assign(state.indices, indices);
  drawAll();
};
const openAxes = () => data.variables[state.variable].values.dims.filter((dim) => !data.axes[dim].labelled && valuesOf(dim).length > 1);

const variableControl = () => control("variable", data.shown.map((name) => [name, spaced(name)]), state.variable, chooseVariable);
const shownControl = () => control("shown", shownChoices(), state.shown, (shown) => { state.shown = shown; });

/** Controls above the map. */
let controlsOf = () => {
  const found = [
    control("model", choices("model"), String(state.indices.model), (k) => { state.indices.model = Number(k); }),
    control("accelerator", choices("hardware"), String(state.first), (k) => choosePair(Number(k), state.second)),
    control("against", [["-1", "none"], ...choices("hardware")], String(state.second), (k) => choosePair(state.first, Number(k))),
    variableControl(), shownControl(),
  ];
  for (const axis of data.variables[state.variable].values.dims) {
    if (["model", "hardware", state.across, state.up].includes(axis) || valuesOf(axis).length < 2) continue;
    found.push(control(spaced(axis), choices(axis), String(state.indices[axis]), (k) => { state.indices[axis] = Number(k); }));
  }
  if (openAxes().length > 2) {
    const axes = openAxes().map((axis) => [axis, spaced(axis)]);
    found.push(control("across", axes, state.across, (axis) => chooseAxes(axis, state.up)));
    found.push(control("up", axes, state.up, (axis) => chooseAxes(state.across, axis)));
  }
  return found;
};

/** Controls below the map, for the chosen cell. */
let cellControlsOf = () => [state.up, state.across].filter(Boolean)
  .map((axis) => control(spaced(axis), choices(axis), String(state.indices[axis]), (k) => { state.indices[axis] = Number(k); }));

/** Put controls into an element; those that are there already stay, with the values of the new ones. */
function putControls(id, controls) {
  const element = document.getElementById(id);
  const there = [...element.children];
  const same = there.length === controls.length && there.every((old, k) => old.isEqualNode(controls[k]));
  if (!same) element.replaceChildren(...controls);
  else there.forEach((old, k) => { old.querySelector("select").value = controls[k].querySelector("select").value; });
}

function drawControls() {
  putControls("controls", controlsOf());
  putControls("cell-controls", cellControlsOf());
}

function shownChoices() {
  const each = machines().map((machine, k) => [k ? "second" : "first", nameOf(machine)]);
  const bounds = data.variables.bound ? each.map(([which, name]) => [`bound-${which}`, `binding resource on ${name}`]) : [];
  return [...(state.second < 0 ? [] : [["ratio", "ratio of the two"]]), ...each, ...bounds];
}

/** Choose two accelerators; choosing the same one twice swaps them. */
function choosePair(first, second) {
  const alone = state.second < 0;
  [state.first, state.second] = first === second ? [state.second, state.first] : [first, second];
  if (state.first < 0) [state.first, state.second] = [first, -1];
  if (state.second < 0) state.shown = state.shown.startsWith("bound") ? "bound-first" : "first";
  else if (alone) state.shown = "ratio";
}

function chooseVariable(name) {
  state.variable = name;
  const open = openAxes();
  if (!open.includes(state.across)) state.across = open.find((axis) => axis !== state.up) ?? null;
  if (!open.includes(state.up) || state.up === state.across) state.up = open.find((axis) => axis !== state.across) ?? null;
}

function chooseAxes(across, up) {
  [state.across, state.up] = across === up ? [state.up, state.across] : [across, up];
}

/** Draw controls, sentences and tables, which need no plotting library. */
function drawWords() {
  drawControls();
  const pair = machines().map(nameOf);
  document.getElementById("question").textContent = `${pair.join(" or ")} for ${valuesOf("model")[state.indices.model]}?`;
  document.getElementById("answer").textContent = answer();
  drawHint();
  drawReadout();
  document.getElementById("memory-section").hidden = !machines().every(memoryOf);
  for (const id of ["roofline-section", "layers-section"]) document.getElementById(id).hidden = !data.layers;
  document.getElementById("front-section").hidden = !data.front;
  drawTables();
}

/** Tables below the pictures with the elements that they are drawn in. */
const tables = () => [...(data.layers ? [["layers-section", drawLayers]] : []), ["quality-section", drawQuality]];
let drawTables = () => tables().forEach(([, drawOne]) => drawOne());

/** Pictures with the elements that they are drawn in. */
const pictures = () => [
  ["map", drawMap], ["memory", drawMemory],
  ...(data.layers ? [["roofline-first", drawRooflines]] : []), ...(data.front ? [["front", drawFront]] : []),
  ...(data.quality?.machines.length ? [["scatter", () => drawScatter(data.quality)]] : []),
];

let drawPictures = () => pictures().forEach(([, drawOne]) => drawOne());

function drawAll() {
  drawWords();
  if (window.Plotly) drawPictures();
}

/** Draw again when the colours or the width of the page change. */
function watch() {
  for (const media of [dark, print]) media.addEventListener("change", () => drawPictures());
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth !== width) drawPictures();
    width = document.body.clientWidth;
  });
}

const fail = (error) => {
  document.getElementById("answer").textContent = `This page could not be drawn (${error.message}); it requires a browser from 2023 or later.`;
  throw error;
};
