"use strict";
// Tables sort by a column when its name is pressed; without scripts they stand in the order of the page.
function makeSortable(root) {
  for (const table of root.querySelectorAll("table.sortable")) makeTableSortable(table);
}

function makeTableSortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.className) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const first = isNumber ? "descending" : "ascending";
      const second = isNumber ? "ascending" : "descending";
      const order = before === first ? second : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => [row, sortKey(row.cells[column], isNumber)]);
      rows.sort(([, a], [, b]) => compare(a, b, sign));
      body.append(...rows.map(([row]) => row));
    });
  });
}

function sortKey(cell, isNumber) {
  if (!isNumber) return cell.textContent;
  const value = cell.dataset.value;
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : parseFloat(value);
}

// What is unknown stands last in either order.
function compare(a, b, sign) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  if (typeof a === "string") return sign * a.localeCompare(b);
  return a === b ? 0 : sign * (a < b ? -1 : 1);
}

makeSortable(document);
