"use strict";
// What all parts share: constants, elements, unpacking, and settings held in the address. Every text of the run reaches
// the document as a text node or an attribute, never as markup.

const WRONG = 0, RIGHT = 1, FAILED = 2, MISSING = 3;
const KINDS = { dense: "Dense", method: "Methods", "budget-matched": "Budget-matched", control: "Controls" };
const DEFAULTS = {
  tab: "results", line: "any", outcome: "all", benchmark: "", task: "", text: "", order: "stored",
  kinds: "dense,method,budget-matched,control", question: "",
};
const settings = { ...DEFAULTS };
const complete = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
let data = null;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

async function unpack(base64) {
  const binary = atob(base64), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// The blocks lie behind this script: what is shown first need not wait for them.
async function block(id) {
  await complete;
  return document.getElementById(id).textContent;
}

const text = (number) => (number < 0 ? "" : data.texts[number]);
const percent = (share) => (share === null ? "–" : `${+(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`);
const lineName = ({ method, row, seed }) =>
  data.lines.filter((line) => line.row === row).length > 1 ? `${method}, seed ${seed}` : method;

function readAddress() {
  Object.assign(settings, DEFAULTS, Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
}

function go(changes) {
  Object.assign(settings, changes);
  const told = Object.entries(settings).filter(([name, value]) => value !== DEFAULTS[name]);
  const address = `#${new URLSearchParams(told)}`;
  if (address !== (location.hash || "#")) location.replace(address);
}
