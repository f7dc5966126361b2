"use strict";
// The page sets data-ready on <html> when everything below has run, and counts errors in data-errors.
(() => {
  const root = document.documentElement;
  const record = (message) => {
    root.dataset.errors = String(Number(root.dataset.errors) + 1);
    root.dataset.error = String(message);
  };
  window.addEventListener("error", (event) => record(event.message || "resource"), true);
  window.addEventListener("unhandledrejection", (event) => record(event.reason));
  document.addEventListener("securitypolicyviolation", (event) => record(event.violatedDirective));
  root.classList.add("js-on");

  // Theme: follows the system until the reader chooses; a file page may have no storage.
  const remembered = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("ilias-fast-theme", value);
      return localStorage.getItem("ilias-fast-theme");
    } catch {
      return null;
    }
  };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remembered(root.dataset.theme);
  });

  // Pictures: each is embedded once and becomes one blob, made when it is first needed; others are files.
  const taken = (id) => {
    const source = document.getElementById(id);
    source.remove();
    return JSON.parse(source.textContent);
  };
  const images = taken("images");
  const urls = new Map();
  const addressOf = (number) => {
    const address = images[number];
    if (!address || !address.startsWith("data:")) return address;
    if (!urls.has(number)) {
      const [head, body] = address.split(",");
      const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
      urls.set(number, URL.createObjectURL(new Blob([bytes], { type: head.slice(5, head.indexOf(";")) })));
    }
    return urls.get(number);
  };
  const placeholder = (name) => {
    const box = document.createElement("span");
    box.className = "noimage";
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", (name + " (image not available)").trim());
    box.textContent = "no image";
    return box;
  };
  const fill = (element) => {
    const address = addressOf(Number(element.dataset.image));
    const isImage = element.localName === "img";
    if (address) element.setAttribute(isImage ? "src" : "href", address);
    else {
      element.classList.add("unreadable");
      if (isImage) element.replaceWith(placeholder(element.alt));
    }
  };
  const soon = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        soon.unobserve(target);
        fill(target);
      }
    },
    { rootMargin: "600px" },
  );
  const show = (within) => within.querySelectorAll("[data-image]:not([src])").forEach((one) => soon.observe(one));

  const text = (node, value) => {
    if (node) node.textContent = value;
  };
  for (const figure of document.querySelectorAll("#matches figure")) show(figure);

  // Tables: a click on a column head sorts; a second click turns the order; cells without a value stay last.
  const value = (row, column, kind) => {
    const text = row.cells[column].textContent.trim();
    if (kind === "text") return text.toLowerCase();
    const number = Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));
    return Number.isNaN(number) ? null : number;
  };
  const sort = (head, kind) => {
    const table = head.closest("table");
    const column = head.cellIndex;
    const first = kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [value(row, column, kind), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return a < b ? -sign : a > b ? sign : 0;
    });
    body.append(...keyed.map(([, row]) => row));
  };
  for (const head of document.querySelectorAll("table.sortable thead th[data-kind]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head, head.dataset.kind));
  }

  window.explore({ taken, show, fill, addressOf, placeholder, text });
  root.dataset.ready = "true";
})();
