"use strict";
// Sorts the table of attributes by a column; the rows of the average stay on top.

const accuracyTable = at("accuracy-table");
const sortButtons = [...accuracyTable.querySelectorAll("thead button")];

function cellValue(row, column) {
  const text = row.cells[column].textContent;
  return column === 0 ? text.toLowerCase() : Number.parseFloat(text);
}

// Undefined values, a dash, are last in either order.
function compared(a, b, sign) {
  if (typeof a === "string") return sign * a.localeCompare(b);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
}

function sortBy(column) {
  const head = sortButtons[column].parentElement;
  const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  sortButtons.forEach((button) => button.parentElement.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const body = accuracyTable.tBodies[1], sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows].sort((a, b) => compared(cellValue(a, column), cellValue(b, column), sign));
  body.replaceChildren(...rows);
}

sortButtons.forEach((button, column) => button.addEventListener("click", () => sortBy(column)));
