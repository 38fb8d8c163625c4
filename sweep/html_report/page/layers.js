// Operators of the chosen cell in running order, with their costs.

const BOUNDS = ["memory", "compute", "communication"];
const LEAST_SHARE = 1e-5; // Of a step's time; a smaller share is shown as "< 0.001 %".

/** Index of the value that is nearest to a number, as a ratio. */
function nearest(values, number) {
  const off = values.map((one) => Math.abs(Math.log(one / number)));
  return off.indexOf(Math.min(...off));
}

/** A share in percent; a small one has fewer digits. */
function percent(share) {
  if (share > 0 && share < LEAST_SHARE) return `< ${digits(100 * LEAST_SHARE)} %`;
  return `${digits(100 * share, share < 0.001 ? 1 : 2)} %`;
}

/** Indices of the broken-down cell that is nearest to the chosen one. */
function brokenDown() {
  const indices = {};
  for (const [axis, values] of Object.entries(data.layers.axes)) {
    const chosen = data.axes[axis]?.values[state.indices[axis]];
    indices[axis] = typeof values[0] === "string" ? state.indices[axis] : nearest(values, chosen ?? values[Math.floor(values.length / 2)]);
  }
  return indices;
}

function nodesOf(phase, machine) {
  const model = data.layers.models[valuesOf("model")[state.indices.model]];
  if (!model) return [];
  const indices = { ...brokenDown(), hardware: machine };
  const names = model.groups.flatMap((group) => group.operators);
  const amount = (what, node) => figure(model[phase][what], { ...indices, node });
  return [...names, "host"].map((name, node) => {
    const [seconds, flops, bytes, sent] = ["seconds", "flops", "memory_bytes", "network_bytes"].map((what) => amount(what, node));
    const busy = flops + bytes + sent > 0;
    return { name, seconds, flops, bytes, sent, bound: busy ? BOUNDS[amount("bound", node)] : undefined };
  });
}

function cellTitle() {
  const numeric = Object.entries(brokenDown()).filter(([axis]) => typeof data.layers.axes[axis][0] !== "string");
  const said = numeric.map(([axis, k]) => `${spaced(axis)} ${labelled(data.layers.axes[axis][k])}`).join(", ");
  const other = numeric.some(([axis, k]) => data.axes[axis]?.values[state.indices[axis]] !== data.layers.axes[axis][k]);
  return `${valuesOf("model")[state.indices.model]} at ${said}${other ? ", the nearest cell with a breakdown" : ""}.`;
}

function phaseTable(phase) {
  const model = data.layers.models[valuesOf("model")[state.indices.model]];
  const each = machines().map((machine) => nodesOf(phase, machine));
  const [main] = each;
  const totals = each.map((nodes) => nodes.reduce((sum, node) => sum + node.seconds, 0));
  const table = document.createElement("table");
  const amounts = ["operations", "memory traffic", "sent", "FLOP/byte"].map((text) => ({ text, wide: true }));
  const head = ["operator", ...amounts];
  for (const machine of machines()) head.push(nameOf(machine), "share, bound by");
  const rows = [];
  let node = 0;
  const amount = (number, units) => (number > 0 ? worded(number, units) : "");
  const works = ({ flops, bytes, sent }) => [
    amount(flops, "flop"), amount(bytes, "byte"), amount(sent, "byte"), bytes > 0 ? digits(flops / bytes, 3) : "",
  ];
  const timeOf = ({ seconds, bound }, total) => (seconds >= 0 ? [worded(seconds, "s"), { share: seconds / total, bound }] : ["", ""]);
  const row = (k, name) => [
    name, ...works(main[k]),
    ...each.flatMap((nodes, m) => timeOf(nodes[k], totals[m])),
  ];
  for (const group of model.groups) {
    rows.push({ group: group.layers > 1 || group.title === "layer" ? `${group.layers} × ${group.title}` : group.title });
    for (const name of group.operators) {
      const busy = each.some((nodes) => nodes[node].seconds > 0);
      if (busy) rows.push({ cells: row(node, spaced(name)), bound: main[node].bound ?? "host" });
      node += 1;
    }
  }
  if (each.some((nodes) => nodes[node].seconds > 0)) rows.push({ cells: row(node, "host"), bound: "host" });
  const sum = (what) => main.reduce((total, one) => total + one[what], 0);
  const all = works({ flops: sum("flops"), bytes: sum("bytes"), sent: sum("sent") });
  rows.push({ total: ["all", ...all, ...totals.flatMap((total) => [total >= 0 ? worded(total, "s") : "", ""])] });
  fillTable(table, head, rows);
  return table;
}

function drawLayers() {
  document.getElementById("layers-hint").textContent =
    `${cellTitle()} Each row is one operator on one GPU, summed over the layers of its kind.`;
  const element = document.getElementById("layers");
  element.replaceChildren();
  const { phases } = data.layers;
  if (!phases.some(({ name }) => nodesOf(name, state.first).some((node) => node.seconds > 0))) {
    element.textContent = "There is no breakdown for this combination; llm-sweep explain computes one for any cell.";
    return;
  }
  for (const { name, title, note } of phases) {
    const heading = document.createElement("h3");
    heading.textContent = title;
    const hint = document.createElement("p");
    hint.className = "hint";
    hint.textContent = note;
    const frame = document.createElement("div");
    frame.className = "wide";
    frame.append(phaseTable(name));
    const whole = document.createElement("div");
    whole.className = "phase";
    whole.append(heading, hint, frame);
    element.append(whole);
  }
}

/** Fill a table without empty columns; a row is a list of cells, a group heading or a total. */
function fillTable(table, head, rows) {
  const textsOf = (row) => row.total ?? row.cells ?? row;
  const used = head.map((_, k) => k === 0 || rows.some((row) => !row.group && textsOf(row)[k] !== ""));
  const columns = head.map((one, k) => ({ ...(typeof one === "object" ? one : { text: one }), k })).filter(({ k }) => used[k]);
  table.replaceChildren();
  const heading = table.createTHead().insertRow();
  for (const { text, wide } of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    cell.classList.toggle("amount", Boolean(wide));
    heading.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    if (row.group) {
      const cell = document.createElement("th");
      cell.colSpan = columns.length;
      cell.textContent = row.group;
      line.className = "group";
      line.append(cell);
      continue;
    }
    line.className = row.total ? "total" : row.strong ? "strong" : row.bound ? "node" : "";
    if (row.bound) line.style.setProperty("--node", `var(--${row.bound})`);
    for (const { k, wide } of columns) {
      const cell = line.insertCell();
      fillCell(cell, textsOf(row)[k]);
      cell.classList.toggle("amount", Boolean(wide));
    }
  }
}

function fillCell(cell, text) {
  if (typeof text !== "object") {
    cell.textContent = text;
    return;
  }
  if (text.under) {
    const under = document.createElement("small");
    under.textContent = text.under;
    cell.append(text.main, under);
    return;
  }
  const share = document.createElement("span");
  share.className = "bar";
  share.style.width = `${4 * (text.share || 0)}rem`;
  share.style.background = `var(--${text.bound ?? "host"})`;
  cell.className = "bars";
  cell.append(share, ` ${percent(text.share)} ${text.bound === "communication" ? "link" : text.bound ?? "overhead"}`);
}
