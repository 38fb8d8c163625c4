// What is chosen, the controls to choose it, and the first drawing.

const AMID = 0.7; // Rather a large batch than a small one.
const state = begin();

function begin() {
  const { variable, across, up, places } = told.start;
  const all = Object.fromEntries(Object.keys(told.axes).map((axis) => [axis, places[axis] ?? 0]));
  const second = valuesOf("hardware").length > 1 ? 1 : -1;
  return { variable, first: 0, second, shown: second < 0 ? "first" : "ratio", across, up, places: all };
}

/** Choose a cell to begin with: one amid those that run, taken apart if any was. */
function chooseCell() {
  const apart = (places) => Object.entries(places)
    .every(([axis, k]) => !told.layers?.axes[axis] || told.layers.axes[axis].includes(valuesOf(axis)[k]));
  const cells = everyCell().filter(apart);
  const able = cells.filter((places) => machines().every((machine) => runs(machine, places)));
  const from = able.length ? able : cells;
  Object.assign(state.places, from[Math.floor(AMID * from.length)]);
}

/** A labelled list to choose from. */
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

const choices = (axis) => valuesOf(axis).map((value, k) => [String(k), String(value)]);
const openAxes = () => told.variables[state.variable].values.dims.filter((dim) => !told.axes[dim].labelled && valuesOf(dim).length > 1);

function drawControls() {
  const place = document.getElementById("controls");
  const found = [
    control("model", choices("model"), String(state.places.model), (k) => { state.places.model = Number(k); }),
    control("accelerator", choices("hardware"), String(state.first), (k) => choosePair(Number(k), state.second)),
    control("against", [["-1", "none"], ...choices("hardware")], String(state.second), (k) => choosePair(state.first, Number(k))),
    control("variable", told.shown.map((name) => [name, spaced(name)]), state.variable, chooseVariable),
    control("shown", shownChoices(), state.shown, (shown) => { state.shown = shown; }),
  ];
  for (const axis of told.variables[state.variable].values.dims) {
    if (["model", "hardware", state.across, state.up].includes(axis) || valuesOf(axis).length < 2) continue;
    found.push(control(spaced(axis), choices(axis), String(state.places[axis]), (k) => { state.places[axis] = Number(k); }));
  }
  if (openAxes().length > 2) {
    const axes = openAxes().map((axis) => [axis, spaced(axis)]);
    found.push(control("across", axes, state.across, (axis) => chooseAxes(axis, state.up)));
    found.push(control("up", axes, state.up, (axis) => chooseAxes(state.across, axis)));
  }
  place.replaceChildren(...found);
  const cell = [state.up, state.across].filter(Boolean)
    .map((axis) => control(spaced(axis), choices(axis), String(state.places[axis]), (k) => { state.places[axis] = Number(k); }));
  document.getElementById("cell-controls").replaceChildren(...cell);
}

function shownChoices() {
  const each = machines().map((machine, k) => [k ? "second" : "first", nameOf(machine)]);
  const bounds = told.variables.bound ? each.map(([which, name]) => [`bound-${which}`, `what binds on ${name}`]) : [];
  return [...(state.second < 0 ? [] : [["ratio", "ratio of the two"]]), ...each, ...bounds];
}

/** Choose two accelerators; one that is chosen in both places swaps them. */
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

/** What needs no pictures: choices, sentences and tables. */
function drawWords() {
  drawControls();
  const pair = machines().map(nameOf);
  document.getElementById("question").textContent = `${pair.join(" or ")} for ${valuesOf("model")[state.places.model]}?`;
  document.getElementById("answer").textContent = answer();
  drawHint();
  drawReadout();
  for (const id of ["roofline-section", "layers-section"]) document.getElementById(id).hidden = !told.layers;
  document.getElementById("front-section").hidden = !told.front;
  if (told.layers) drawLayers();
  drawQuality();
}

function drawPictures() {
  drawMap();
  if (told.layers) drawRooflines();
  if (told.front) drawFront();
  if (told.quality?.machines.length) drawScatter(told.quality);
}

function drawAll() {
  drawWords();
  if (window.Plotly) drawPictures();
}

async function open() {
  packed = await unpacked("figures");
  chooseCell();
  drawWords();
  performance.mark("readable");
  const library = document.createElement("script");
  library.textContent = new TextDecoder().decode(await unpacked("plotly"));
  document.head.append(library);
  drawPictures();
  for (const media of [dark, print]) media.addEventListener("change", drawPictures);
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth !== width) drawPictures();
    width = document.body.clientWidth;
  });
  performance.mark("usable");
  document.documentElement.dataset.usable = "yes";
}

open().catch((error) => {
  document.getElementById("answer").textContent = `This page could not be drawn (${error.message}); it needs a browser of 2023 or later.`;
  throw error;
});
