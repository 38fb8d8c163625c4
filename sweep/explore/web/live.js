// A live page: each change of a control asks the server for the view, and the pictures follow.

const STEPS_OF_SLIDER = 400;
const SLOW = 300; // Time after which the page says that it computes, in milliseconds.
const { controls: fields } = JSON.parse(document.getElementById("options").textContent);
const decoder = new TextDecoder();
const inputs = {}; // Control by field of a view.
const sliders = {};

// Controls.

/** Number at a position between two ends, evenly spaced in the logarithm, with three digits. */
function numberAt(position, [low, high]) {
  if (position >= STEPS_OF_SLIDER) return high;
  const number = low * (high / low) ** (position / STEPS_OF_SLIDER);
  return Math.round(number < 1000 ? number : Number(number.toPrecision(3)));
}
/** Numbers of all positions, each once, so that every step of a slider changes it. */
const stopsOf = (ends) => [...new Set(Array.from({ length: STEPS_OF_SLIDER + 1 }, (_, position) => numberAt(position, ends)))];

function choiceOf({ field, choices: every }) {
  const select = document.createElement("select");
  for (const [name, title] of every) select.append(new Option(title, name));
  select.addEventListener("change", () => changed(field));
  return select;
}

function numberOf({ field, most }) {
  const input = document.createElement("input");
  Object.assign(input, { type: "text", inputMode: "numeric", autocomplete: "off", maxLength: 20, title: `1 to ${digits(most, 9)}` });
  input.addEventListener("input", () => changed(field));
  return input;
}

function sliderOf({ field, title }, stops) {
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: stops.length - 1, step: 1, id: `slide-${field}` });
  input.setAttribute("aria-label", title);
  input.addEventListener("input", () => {
    inputs[field].value = stops[Number(input.value)];
    changed(field);
  });
  return input;
}

function drawForm() {
  const form = document.getElementById("view");
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const one of fields) {
    const { field, title, choices: every, slider } = one;
    const label = document.createElement("label");
    const input = every ? choiceOf(one) : numberOf(one);
    input.id = `view-${field}`;
    inputs[field] = input;
    label.htmlFor = input.id;
    label.append(title);
    if (every || slider) label.className = slider ? "wide-field" : "long";
    if (slider) {
      const frame = document.createElement("span");
      frame.className = "slider";
      const stops = stopsOf(slider);
      sliders[field] = [sliderOf(one, stops), stops];
      frame.append(sliders[field][0], input);
      label.append(frame);
    } else label.append(input);
    form.append(label);
  }
  const links = document.createElement("div");
  links.id = "links";
  for (const [id, text, path] of LINKS) {
    const link = document.createElement("a");
    Object.assign(link, { id, textContent: text });
    link.dataset.path = path;
    if (path !== "/") link.download = path.slice(1);
    links.append(link);
  }
  form.append(links);
}

const LINKS = [
  ["permalink", "Link to this view", "/"],
  ["get-sweep", "Sweep file", "/view.yaml"], ["get-netcdf", "NetCDF", "/view.nc"], ["get-report", "Report", "/view.html"],
];

/** Show the values of a view in its controls; the one that is typed in keeps its text. */
function fillForm(query) {
  const known = new URLSearchParams(query);
  for (const [field, input] of Object.entries(inputs)) {
    if (!known.has(field)) continue;
    const typing = document.activeElement === input && input.type === "text";
    if (!typing) input.value = known.get(field);
  }
  fillSliders();
  for (const link of document.getElementById("links").children) link.href = `${link.dataset.path}?${query}`;
}

function fillSliders() {
  for (const [field, [input, stops]] of Object.entries(sliders)) {
    const number = Number(inputs[field].value);
    if (number > 0 && document.activeElement !== input) input.value = stops.filter((stop) => stop < number).length;
  }
}

// Asking the server.

const query = () => new URLSearchParams(Object.entries(inputs).map(([field, input]) => [field, input.value.trim()])).toString();
let wanted = null; // The latest view that was asked for, while an earlier one is computed.
let busy = false;
let pressed = 0; // Time of the change that is not drawn yet.

function changed() {
  pressed = performance.now();
  fillSliders();
  ask(query());
}

/** Ask for a view. One question is open at a time, and the latest replaces those that wait. */
async function ask(text) {
  wanted = text;
  if (busy) return;
  busy = true;
  const slow = setTimeout(() => document.body.setAttribute("aria-busy", "true"), SLOW);
  try {
    while (wanted !== null) {
      const asked = wanted;
      wanted = null;
      await show(asked);
    }
  } finally {
    busy = false;
    clearTimeout(slow);
    document.body.removeAttribute("aria-busy");
  }
}

async function show(asked) {
  let response;
  try {
    response = await fetch(`/view?${asked}`);
  } catch {
    complain("The server does not answer; start llm-sweep explore again.");
    return;
  }
  if (!response.ok) {
    const found = await response.json().catch(() => ({ error: `The server failed (${response.status}); its terminal says why.` }));
    complain(found.error);
    return;
  }
  const found = await response.arrayBuffer();
  if (wanted !== null) return;
  const length = new DataView(found).getUint32(0, true);
  hold(JSON.parse(decoder.decode(new Uint8Array(found, 4, length))), found.slice(4 + length));
  complain(data.note);
  follow();
  fillForm(data.view);
  history.replaceState(null, "", `?${data.view}`);
  drawAll();
  performance.measure("update", { start: pressed, end: performance.now() });
  document.documentElement.dataset.view = data.view;
  document.documentElement.dataset.usable = "yes";
}

/** Say in one line what is wrong, while the last view stays, or doubtful; nothing if the text is empty. */
function complain(text) {
  const element = document.getElementById("trouble");
  element.textContent = text;
  element.hidden = !text;
  if (text && !state) document.getElementById("answer").textContent = "No view yet; change a control.";
  const field = text.split(":")[0];
  for (const [name, input] of Object.entries(inputs)) input.setAttribute("aria-invalid", String(name === field));
}

// The state that the pictures share with a report.

/** Bring the state to the view that has arrived; the chosen variable and map stay. */
function follow() {
  const next = begin();
  if (state) {
    const bare = state.variable.replace("inflight_", "");
    const same = [state.variable, `inflight_${bare}`, bare].find((name) => data.shown.includes(name));
    next.variable = same ?? next.variable;
    next.shown = state.shown;
  }
  state = next;
}

const NEAR = 100; // Distance from the screen at which a picture counts as seen, in pixels.
let round = 0;
drawTables = () => {}; // They are drawn as pictures are.

/** Draw what is on the screen, then the rest one by one unless the next view has come. */
drawPictures = () => {
  if (!state) return;
  round += 1;
  const mine = round;
  const seen = (id) => {
    const { top, bottom } = document.getElementById(id).getBoundingClientRect();
    return print.matches || (bottom > -NEAR && top < innerHeight + NEAR);
  };
  const every = [...pictures(), ...tables()];
  const now = every.filter(([id]) => seen(id));
  const later = every.filter((one) => !now.includes(one));
  now.forEach(([, drawOne]) => drawOne());
  const next = () => {
    if (mine !== round) return;
    const one = later.shift();
    if (!one) {
      document.documentElement.dataset.drawn = data.view;
      return;
    }
    one[1]();
    setTimeout(next);
  };
  setTimeout(next);
};

controlsOf = () => [variableControl(), shownControl()];
cellControlsOf = () => [];
choose = (indices) => {
  const axes = { concurrency: "load", batch_size: "load" };
  for (const [axis, k] of Object.entries(indices)) {
    const input = inputs[axes[axis] ?? axis];
    if (input) input.value = valuesOf(axis)[k];
  }
  changed();
};

async function openLive() {
  drawForm();
  fillForm(new URLSearchParams(fields.map(({ field, value }) => [field, value])).toString());
  const asked = new URLSearchParams(location.search);
  fillForm(asked.toString());
  await ask(location.search.slice(1));
  watch();
}

openLive().catch(fail);
