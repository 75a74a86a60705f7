"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // Beside the page there is room for the contents and the filter; above it they are closed.
  for (const part of all("nav > details")) part.open = matchMedia("(min-width: 1250px)").matches;

  // Tables: a click on a heading sorts. Rows without a value are last in both directions.
  const number = (cell) => {
    if (cell.dataset.value !== undefined) return parseFloat(cell.dataset.value);
    const found = /^[<\s]*(-?\d*\.?\d+)/.exec(cell.textContent);
    return found ? parseFloat(found[1]) : NaN;
  };
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
  for (const table of all(".scroll table")) {
    [...table.tHead.rows[0].cells].forEach((heading, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading, index));
      heading.append(button);
    });
  }

  // Files and the clipboard.
  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page that was opened as a file may lack the clipboard
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  const textOf = (button, kind) =>
    button.closest("section.table").querySelector(`template.${kind}`).content.textContent;
  for (const button of all("button[data-copy]")) {
    button.addEventListener("click", async () => {
      await copy(textOf(button, button.dataset.copy));
      const words = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = words; }, 1500);
    });
  }
  for (const button of all("button[data-save]")) {
    const blob = () => new Blob([textOf(button, "csv")], { type: "text/csv" });
    button.addEventListener("click", () => save(button.dataset.save, blob()));
  }

  // Figures: saved as they are shown, without the methods that are hidden.
  const drawing = (figure) => figure.querySelector("svg");  // of a forest plot, the wide one
  const source = (svg) => {
    const clone = svg.cloneNode(true);
    all("[data-off], .hit", clone).forEach((part) => part.remove());
    all(".dim", clone).forEach((part) => part.classList.remove("dim"));
    return new XMLSerializer().serializeToString(clone);
  };
  const picture = (svg, done) => {
    const image = new Image();
    const box = svg.viewBox.baseVal;
    image.onload = () => {
      const canvas = document.createElement("canvas");
      const scale = Math.max(2, 2000 / box.width);
      [canvas.width, canvas.height] = [Math.round(scale * box.width), Math.round(scale * box.height)];
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(done, "image/png");
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source(svg));
  };
  for (const button of all("button[data-figure]")) {
    const figure = button.closest("figure");
    const name = figure.id.replace("figure-", "");
    button.addEventListener("click", () => {
      const svg = drawing(figure);
      if (button.dataset.figure === "svg") {
        save(`${name}.svg`, new Blob([source(svg)], { type: "image/svg+xml" }));
      } else {
        picture(svg, (blob) => save(`${name}.png`, blob));
      }
    });
  }

  // Pointing at a method in a figure brings it out. A thin line is easier to hit if it is wide.
  for (const line of all("figure svg [data-m] path[fill=none]")) {
    const wide = line.cloneNode();
    wide.setAttribute("class", "hit");
    line.after(wide);
  }
  for (const svg of all("figure svg")) {
    const parts = all("[data-m]", svg);
    const show = (method) => {
      for (const part of parts) part.classList.toggle("dim", method !== null && part.dataset.m !== method);
    };
    svg.addEventListener("pointerover", (event) => {
      const part = event.target.closest("[data-m]");
      show(part && part.tagName !== "svg" ? part.dataset.m : null);
    });
    svg.addEventListener("pointerleave", () => show(null));
  }

  // The filter hides methods in all tables and figures. Rows of the forest plot move together.
  const together = (svg) => {
    let shift = 0;
    for (const row of all("g[data-m]", svg)) {
      row.setAttribute("transform", `translate(0 ${-shift})`);
      if (row.hasAttribute("data-off")) shift += parseFloat(svg.dataset.row);
    }
    const height = parseFloat(svg.dataset.height) - shift;
    const box = svg.viewBox.baseVal;
    svg.setAttribute("viewBox", `0 0 ${box.width} ${height}`);
    svg.setAttribute("height", height);
    svg.querySelector("g.axis").setAttribute("transform", `translate(0 ${-shift})`);
  };
  const boxes = all("input[data-method]");
  const filter = () => {
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.dataset.method));
    for (const part of all("[data-m]")) {
      part.toggleAttribute("data-off", part.dataset.m.split(" ").some((method) => hidden.has(method)));
    }
    all("svg[data-row]").forEach(together);
    for (const count of all(".count")) count.textContent = `${boxes.length - hidden.size} of ${boxes.length} shown`;
  };
  for (const box of boxes) box.addEventListener("change", filter);
  for (const button of all("button[data-check]")) {
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.dataset.check === "all";
      filter();
    });
  }
  if (boxes.some((box) => !box.checked)) filter();  // a browser may restore the boxes of a page
})();
