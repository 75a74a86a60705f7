"use strict";
(() => {
  const number = (cell) => {
    if (cell.dataset.value !== undefined) return parseFloat(cell.dataset.value);
    const found = /^[<\s]*(-?\d*\.?\d+)/.exec(cell.textContent);
    return found ? parseFloat(found[1]) : NaN;
  };
  // Rows without a value are last in both directions.
  const compare = (a, b, down) => {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) && isNaN(y)) return (down ? -1 : 1) * a.textContent.localeCompare(b.textContent);
    if (isNaN(x) || isNaN(y)) return isNaN(x) ? 1 : -1;
    return down ? y - x : x - y;
  };
  const sort = (table, heading, index) => {
    const numeric = heading.classList.contains("value");
    const down = heading.ariaSort ? heading.ariaSort === "ascending" : numeric;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(a.cells[index], b.cells[index], down));
    body.append(...rows);
  };
  for (const table of document.querySelectorAll(".scroll table")) {
    [...table.tHead.rows[0].cells].forEach((heading, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading, index));
      heading.append(button);
    });
  }
})();
