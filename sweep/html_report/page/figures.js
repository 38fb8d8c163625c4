"use strict";
// Data of the page: `data` has names and notes, the packed arrays have the numbers.

let data = null;
const KINDS = { float32: Float32Array, int8: Int8Array, int16: Int16Array, int32: Int32Array };
let packed = null;

/** Decode the text of an element: base64 of gzip. */
async function unpacked(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  element.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Take the data of a page, or of its next view. */
function hold(found, arrays) {
  data = found;
  packed = arrays;
}

/** All numbers of a packed array, row-major. */
function numbers(note) {
  const size = note.shape.reduce((product, length) => product * length, 1);
  note.numbers ??= new KINDS[note.type](packed, note.at, size);
  return note.numbers;
}

/** The number of a packed array at an index along each of its axes; NaN if there is none. */
function figure(note, indices) {
  let index = 0;
  note.dims.forEach((dim, k) => { index = index * note.shape[k] + indices[dim]; });
  return numbers(note)[index] ?? NaN;
}

const valuesOf = (axis) => data.axes[axis].values;
const nameOf = (machine) => valuesOf("hardware")[machine];

/** The value of a variable on an accelerator in the chosen cell, with some indices replaced. */
function value(name, machine, indices) {
  const variable = data.variables[name];
  if (!variable) return NaN;
  return figure(variable.values, { ...state.indices, hardware: machine, ...indices });
}

/** Whether a cell can run; unknown counts as yes. */
function runs(machine, indices) {
  const name = state.variable.startsWith("inflight_") ? "inflight_feasible" : "feasible";
  const known = value(name, machine, indices);
  return Number.isNaN(known) || known === 1;
}

/** Whether requests wait for a slot of a server in a cell; unknown counts as no. */
function overloaded(machine, indices) {
  if (!data.overloaded || !state.variable.startsWith("inflight_")) return false;
  return figure(data.overloaded, { ...state.indices, hardware: machine, ...indices }) === 1;
}

/** Names of a category, or of the bits of a mask. */
function meanings(name, number) {
  const variable = data.variables[name];
  if (!variable || Number.isNaN(number)) return [];
  if (variable.flag_values) return variable.meanings.filter((_, k) => variable.flag_values[k] === number);
  return variable.meanings.filter((_, k) => variable.flag_masks[k] & number);
}

/** The resource that binds on an accelerator; undefined where it is unknown. */
const binding = (machine, indices) => meanings("bound", value("bound", machine, indices))[0];
