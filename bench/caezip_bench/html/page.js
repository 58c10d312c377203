"use strict";
// What the other parts share: elements, numbers as text, tables that sort.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; texts become text, never markup. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** A number with that many digits after the point, and a minus sign that is one. */
function fixed(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

/** As short as it gets: a quality, or a target. */
function short(value) {
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** Radio buttons that look like one bar; `chosen` is called with the value of a new choice. */
function makeChoices(fieldset, options, selected, chosen) {
  for (const [value, text] of options) {
    const input = make("input", { type: "radio", name: fieldset.id, value });
    input.checked = value === selected;
    input.addEventListener("change", () => chosen(value));
    fieldset.append(make("label", {}, input, make("span", {}, text)));
  }
}

/** Each header of a sortable table becomes a button that sorts by its column. */
function makeSortable(table) {
  const headers = [...table.querySelectorAll("thead th")];
  headers.forEach((header, column) => {
    const button = make("button", { type: "button" }, header.textContent);
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortRows(table.tBodies[0], column, ascending);
    });
  });
}

function sortRows(body, column, ascending) {
  const rows = [...body.rows].map((row) => {
    const cell = row.cells[column];
    const number = cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
    return { row, number, text: cell.textContent };
  });
  const numeric = rows.some((item) => item.number !== null);
  const sign = ascending ? 1 : -1;
  rows.sort((one, other) => {
    if (!numeric) return sign * one.text.localeCompare(other.text, undefined, { numeric: true });
    // a cell without a number comes last, whichever way
    if (one.number === null || other.number === null) {
      return (one.number === null) - (other.number === null);
    }
    return sign * (one.number - other.number);
  });
  body.append(...rows.map((item) => item.row));
}
