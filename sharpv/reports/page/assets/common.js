"use strict";
// What all parts share: constants, elements, unpacking, and settings held in the address. Every text of the run reaches
// the document as a text node or an attribute, never as markup.

const WRONG = 0, RIGHT = 1, FAILED = 2, MISSING = 3;
const KINDS = { dense: "Dense", method: "Methods", "budget-matched": "Budget-matched", control: "Controls" };
const DEFAULTS = {
  tab: "results", line: "any", reference: "dense", outcome: "all", benchmark: "", task: "", text: "", order: "stored",
  kinds: "dense,method,budget-matched,control", question: "",
};
const settings = { ...DEFAULTS };
const complete = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
const arriving = new Map();
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

// A block lies behind this script: what is shown first need not wait for it. Those of a large page are scripts in a
// folder beside it, each of which calls `part`: a page opened from disk may fetch nothing else.
async function block(id) {
  await complete;
  return document.getElementById(id)?.textContent ?? (arriving.get(id) ?? load(id)).arrived;
}

function load(id) {
  const asked = {}, name = `${data.parts}/${id}.js`;
  arriving.set(id, asked);
  asked.arrived = new Promise((resolve, reject) => {
    asked.resolve = resolve;
    const end = () => { script.remove(); arriving.delete(id); };
    const failed = () => { end(); reject(new Error(`${name} cannot be read: keep the folder ${data.parts} beside this page`)); };
    const script = make("script", { src: encodeURI(name), onload: end, onerror: failed });
    document.head.append(script);
  });
  return asked;
}

function part(id, content) {
  arriving.get(id)?.resolve(content);
}

// Prompts and answers, which only lists, searches and samples need.
async function texts() {
  if (!data.texts) Object.assign(data, await unpack(await block("texts")));
}

const text = (number) => (number < 0 ? "" : data.texts[number]);
const percent = (share) => (share === null ? "–" : `${+(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`);
const lineName = ({ method, row, seed }) =>
  data.lines.filter((line) => line.row === row).length > 1 ? `${method}, seed ${seed}` : method;

const isLine = (value) => /^\d+$/.test(value) && Number(value) < data.lines.length;
// What an address may set; anything else that stands there counts as not said.
const VALID = {
  tab: (value) => Object.hasOwn(TABS, value),
  line: (value) => value === "any" || isLine(value),
  reference: (value) => value === "dense" || isLine(value),
  outcome: (value) => Object.hasOwn(OUTCOMES, value),
  order: (value) => Object.hasOwn(ORDERS, value),
};

function readAddress() {
  Object.assign(settings, DEFAULTS);
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (Object.hasOwn(DEFAULTS, name) && (VALID[name]?.(value) ?? true)) settings[name] = value;
  }
}

function go(changes) {
  Object.assign(settings, changes);
  const told = Object.entries(settings).filter(([name, value]) => value !== DEFAULTS[name]);
  const address = `#${new URLSearchParams(told)}`;
  if (address !== (location.hash || "#")) location.replace(address);
}
