// Elements from data. Texts become text nodes: nothing a model writes is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Returns an HTML element. Properties that begin with "on" are listeners; null leaves one out. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Returns an SVG element. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Calls a function once no other call has come for some milliseconds. */
export function debounced(wait, work) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

let numbers = 0;

/** Returns an id that no other element has. */
export function newId(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}

/**
 * Lets the arrow keys move among buttons, of which one is in the tab order.
 * @returns the function to call when the buttons have changed.
 */
export function roving(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  const choose = (chosen) => {
    for (const item of items()) item.tabIndex = item === chosen ? 0 : -1;
  };
  container.addEventListener("keydown", (event) => {
    const all = items();
    const place = all.indexOf(document.activeElement);
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    let next = null;
    if (place < 0) return;
    if (event.key in moves) next = all[place + moves[event.key]];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all.at(-1);
    if (!next) return;
    event.preventDefault();
    choose(next);
    next.focus();
  });
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item && container.contains(item)) choose(item);
  });
  return () => {
    const all = items();
    if (!all.some((item) => item.tabIndex === 0 && !item.disabled)) choose(all[0]);
    else choose(all.find((item) => item.tabIndex === 0));
  };
}

/** Returns "zh-Hans" for a text with Chinese characters, so that it is read and drawn as one. */
export function languageOf(text) {
  if (/[\u3040-\u30ff]/.test(text)) return "ja";
  return /[\u4e00-\u9fff]/.test(text) ? "zh-Hans" : null;
}
