"use strict";
// What all parts of the page use: elements, formats, and the list of sections.
//
// A section is a file of its own: it pushes {id, title, draw} to `sections`, and its place on the
// page is that of its file's name among the others'. draw(model, box) fills the box anew; model is
// what 90-main.js made of the answers. Text from outside gets into the page as text only.

const sections = [];

function el(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "text", "polyline", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
                      : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// null stands for "no limit", as in the JSON.
function bytes(value) {
  if (value === null) {
    return "none";
  }
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 100 ? 1 : 0)} ${units[unit]}`;
}

function count(value) {
  return value === null ? "none" : Math.round(value).toLocaleString("en");
}

function rate(value) {
  const units = ["", "k", "M", "G"];
  let unit = 0;
  while (value >= 10000 && unit + 1 < units.length) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(value < 100 && unit > 0 ? 1 : 0)}${units[unit]}/s`;
}

function age(milliseconds) {
  const seconds = milliseconds / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s`
    : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// A figure with its raw value, which the tests compare with the JSON.
function figure(name, value, format) {
  return el("b", {"data-metric": name, "data-value": value === null ? "none" : value},
    format(value));
}

function table(caption, columns, rows) {
  const head = el("tr", null, ...columns.map(({name, help, kind}) =>
    el("th", {scope: "col", title: help, class: kind}, name)));
  return el("div", {class: "wide"}, el("table", {"aria-label": caption}, el("thead", null, head),
    el("tbody", null, ...rows)));
}

// What a metric means, from the table that the tool was built with.
function helpOf(model, level, name) {
  const metric = model.tables[level].find((one) => one.name === name);
  return metric ? metric.help : "";
}

const sum = (list, name) => list.reduce((total, one) => total + (one[name] || 0), 0);
