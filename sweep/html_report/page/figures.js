"use strict";
// What the page carries: `told` says what there is, the packed figures hold the numbers.

const told = JSON.parse(document.getElementById("told").textContent);
const KINDS = { float32: Float32Array, int8: Int8Array, int16: Int16Array, int32: Int32Array };
let packed = null;

/** The bytes behind the text of an element: base64 of gzip. */
async function unpacked(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  element.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** All numbers of a packed array, row-major. */
function numbers(note) {
  const size = note.shape.reduce((product, length) => product * length, 1);
  note.numbers ??= new KINDS[note.type](packed, note.at, size);
  return note.numbers;
}

/** The number of a packed array at a place along each of its axes; NaN if there is none. */
function figure(note, places) {
  let index = 0;
  note.dims.forEach((dim, k) => { index = index * note.shape[k] + places[dim]; });
  return numbers(note)[index] ?? NaN;
}

const valuesOf = (axis) => told.axes[axis].values;
const nameOf = (machine) => valuesOf("hardware")[machine];

/** The number of a variable on an accelerator at the chosen places, some replaced. */
function value(name, machine, places) {
  const variable = told.variables[name];
  if (!variable) return NaN;
  return figure(variable.values, { ...state.places, hardware: machine, ...places });
}

/** Whether a cell can run; unknown counts as yes. */
function runs(machine, places) {
  const name = state.variable.startsWith("inflight_") ? "inflight_feasible" : "feasible";
  const known = value(name, machine, places);
  return Number.isNaN(known) || known === 1;
}

/** The words of a category or of the bits of a mask. */
function meanings(name, number) {
  const variable = told.variables[name];
  if (!variable || Number.isNaN(number)) return [];
  if (variable.flag_values) return variable.meanings.filter((_, k) => variable.flag_values[k] === number);
  return variable.meanings.filter((_, k) => variable.flag_masks[k] & number);
}

/** What binds on an accelerator, or nothing where that is unknown. */
const binding = (machine, places) => meanings("bound", value("bound", machine, places))[0];
