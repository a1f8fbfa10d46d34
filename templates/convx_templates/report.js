"use strict";
(() => {
  const { columns, rows } = JSON.parse(document.getElementById("data").textContent);
  const tensors = rows.map((row) => Object.fromEntries(columns.map((column, at) => [column, row[at]])));
  const whole = Math.max(1, tensors.reduce((sum, tensor) => sum + tensor.bytes, 0));
  const byId = (id) => document.getElementById(id);
  const tree = byId("tree"), about = byId("about");
  const state = { open: new Set(), sort: null, down: false, words: [], role: "", format: "", flat: false, at: null };

  const SIZES = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]], COUNTS = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
  const scaled = (value, units, last) => {
    const [unit, name] = units.find(([size]) => value >= size) || [1, last];
    return `${unit === 1 ? value : (value / unit).toFixed(2)} ${name}`.trim();
  };
  const percent = (value) => (value === null ? "" : value === 0 ? "0" : `${(100 * value).toPrecision(3)} %`);
  const natural = new Intl.Collator("en", { numeric: true }).compare;

  const COLUMNS = [
    { key: "name", title: "Module", kind: "name", text: (node) => node.label },
    { key: "bits", title: "Bits/weight", kind: "bits number", text: (node) => node.bits.toFixed(3) },
    { key: "format", title: "Stored as", kind: "format", text: (node) => node.format },
    { key: "elements", title: "Params", kind: "parameters number", text: (node) => scaled(node.elements, COUNTS, "") },
    { key: "bytes", title: "Size", kind: "size number", text: (node) => scaled(node.bytes, SIZES, "B") },
    { key: "error", title: "Error", kind: "error number", text: (node) => percent(node.error) },
    { key: "reason", title: "Reason", kind: "reason", text: (node) => node.reason },
  ];

  // ------------------------------------------------------------------ the tree

  function leaf(tensor, label) {
    return {
      ...tensor, label, path: tensor.name, tensor, children: [], formats: [tensor.format], reasons: [tensor.reason],
      known: tensor.error === null ? 0 : tensor.elements, bits: (8 * tensor.bytes) / Math.max(1, tensor.elements),
    };
  }

  function grow(list) {
    const root = { label: "", path: "", map: new Map() };
    for (const tensor of list) {
      let node = root;
      const words = tensor.name.split(".");
      for (const word of words.slice(0, -1)) {
        if (!node.map.has(word)) node.map.set(word, { label: word, path: node.path ? `${node.path}.${word}` : word, map: new Map() });
        node = node.map.get(word);
      }
      node.map.set(`.${tensor.name}`, leaf(tensor, words.at(-1)));
    }
    return settle(root).children;
  }

  // A module with one thing in it is one row with that thing; sums go from the leaves up.
  function settle(node) {
    if (!node.map) return node;
    const children = [...node.map.values()].map(settle);
    if (children.length === 1 && node.path) return { ...children[0], label: `${node.label}.${children[0].label}` };
    return { ...totals(children), label: node.label, path: node.path, children };
  }

  function totals(children) {
    const elements = children.reduce((sum, child) => sum + child.elements, 0);
    const bytes = children.reduce((sum, child) => sum + child.bytes, 0);
    const known = children.filter((child) => child.error !== null);
    const weight = known.reduce((sum, child) => sum + child.known, 0);
    const squares = known.reduce((sum, child) => sum + child.known * child.error ** 2, 0);
    const formats = union(children, "formats"), reasons = union(children, "reasons");
    return {
      elements, bytes, bits: (8 * bytes) / Math.max(1, elements), known: weight, formats, reasons,
      error: weight ? Math.sqrt(squares / weight) : null,
      format: formats.length < 3 ? formats.join(", ") : `${formats.length} formats`,
      reason: reasons.length === 1 ? reasons[0] : "",
    };
  }

  const union = (children, key) => [...new Set(children.flatMap((child) => child[key]))];

  // ------------------------------------------------------------------ what is shown

  function passes(tensor) {
    if (state.role && tensor.role !== state.role) return false;
    if (state.format && tensor.format !== state.format) return false;
    const text = `${tensor.name} ${tensor.role} ${tensor.format} ${tensor.reason}`.toLowerCase();
    return state.words.every((word) => text.includes(word));
  }

  function compare(left, right) {
    if (state.sort === null) return 0;
    const [a, b] = [left[state.sort], right[state.sort]];
    if (a === null || b === null) return (a === null) - (b === null);
    const key = state.sort === "name" ? natural(left.label, right.label) : typeof a === "number" ? a - b : natural(a, b);
    return state.down ? -key : key;
  }

  function visible(nodes, depth, parent, out) {
    const sorted = state.sort === null ? nodes : [...nodes].sort(compare);
    sorted.forEach((node, at) => {
      out.push({ node, depth, parent, place: at + 1, of: sorted.length });
      if (node.children.length && state.open.has(node.path)) visible(node.children, depth + 1, node, out);
    });
    return out;
  }

  let shown = [], roots = [], found = 0;

  function refresh(keepOpen) {
    const list = tensors.filter(passes);
    found = list.length;
    roots = state.flat ? list.map((tensor) => leaf(tensor, tensor.name)) : grow(list);
    if (!keepOpen) openSome();
    draw();
  }

  // Open the tree level by level, as long as it fits a screen.
  function openSome() {
    state.open.clear();
    let level = roots, count = roots.length;
    while (level.length) {
      const next = level.flatMap((node) => node.children);
      count += next.length;
      if (count > 60) return;
      level.forEach((node) => node.children.length && state.open.add(node.path));
      level = next;
    }
  }

  function setAll(nodes, open) {
    for (const node of nodes) {
      if (!node.children.length) continue;
      if (open) state.open.add(node.path); else state.open.delete(node.path);
      setAll(node.children, open);
    }
  }

  // ------------------------------------------------------------------ drawing

  function element(tag, attributes, text) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function header() {
    const row = element("div", { class: "row", role: "row" });
    for (const { key, title, kind } of COLUMNS) {
      const cell = element("div", { class: `cell ${kind.replace("name", "")}`, role: "columnheader", "data-key": key, "aria-sort": "none" });
      const button = element("button", { type: "button" }, title);
      button.addEventListener("click", () => sortBy(key));
      cell.append(button);
      row.append(cell);
    }
    const group = element("div", { class: "head", role: "rowgroup" });
    group.append(row);
    return group;
  }

  function line({ node, depth, place, of }, at) {
    const row = element("div", {
      class: "row", role: "row", tabindex: "-1", "data-at": at,
      "aria-level": depth + 1, "aria-posinset": place, "aria-setsize": of,
    });
    if (node.children.length) row.setAttribute("aria-expanded", state.open.has(node.path));
    row.style.setProperty("--depth", depth);
    row.style.setProperty("--share", node.bytes / whole);
    for (const { kind, text } of COLUMNS) row.append(element("div", { class: `cell ${kind}`, role: "gridcell" }, text(node)));
    return row;
  }

  const body = element("div", { class: "body", role: "rowgroup" });
  const heads = header();

  function draw() {
    shown = visible(roots, 0, null, []);
    const lines = document.createDocumentFragment();
    shown.forEach((entry, at) => lines.append(line(entry, at)));
    body.replaceChildren(lines);
    const at = Math.max(0, shown.findIndex((entry) => entry.node.path === state.at));
    if (body.children[at]) body.children[at].tabIndex = 0;
    for (const cell of heads.querySelectorAll("[data-key]")) {
      const here = cell.dataset.key === state.sort;
      cell.setAttribute("aria-sort", here ? (state.down ? "descending" : "ascending") : "none");
      cell.firstChild.textContent = COLUMNS.find((c) => c.key === cell.dataset.key).title + (here ? (state.down ? " \u2193" : " \u2191") : "");
    }
    byId("count").textContent = `${found} of ${tensors.length} tensors`;
  }

  function sortBy(key) {
    const numbers = !["name", "format", "reason"].includes(key);
    if (state.sort !== key) Object.assign(state, { sort: key, down: numbers });
    else if (state.down === numbers) state.down = !numbers;
    else state.sort = null;
    draw();
  }

  // ------------------------------------------------------------------ keys and clicks

  function focusRow(at) {
    const row = body.children[Math.min(Math.max(0, at), body.children.length - 1)];
    if (!row) return;
    for (const other of body.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    row.tabIndex = 0;
    state.at = shown[row.dataset.at].node.path;
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  }

  function toggle(at, open) {
    const { node } = shown[at];
    if (open) state.open.add(node.path); else state.open.delete(node.path);
    state.at = node.path;
    draw();
    focusRow(at);
  }

  function tell(node) {
    const { tensor } = node;
    const list = element("dl", {});
    const facts = {
      role: tensor.role, layer: tensor.layer, shape: (tensor.shape || []).join(" \u00d7 "), "stored as": tensor.format,
      "stored bits": tensor.bits, size: `${tensor.bytes.toLocaleString("en")} bytes`, error: percent(tensor.error),
      "decided by": tensor.by, reason: tensor.reason, "made from": (tensor.source || []).join(", "),
    };
    for (const [name, value] of Object.entries(facts)) {
      if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, name), element("dd", {}, value));
    }
    const close = element("button", { type: "button" }, "Close");
    close.addEventListener("click", hide);
    about.replaceChildren(element("h3", {}, tensor.name), list, close);
    about.hidden = false;
    about.focus();
  }

  function hide() {
    about.hidden = true;
    focusRow(shown.findIndex((entry) => entry.node.path === state.at));
  }

  function enter(at) {
    const { node } = shown[at];
    state.at = node.path;
    if (node.children.length) toggle(at, !state.open.has(node.path)); else tell(node);
  }

  function right(at) {
    const { node } = shown[at];
    if (!node.children.length) return;
    if (state.open.has(node.path)) focusRow(at + 1); else toggle(at, true);
  }

  function left(at) {
    const { node, parent } = shown[at];
    if (node.children.length && state.open.has(node.path)) toggle(at, false);
    else if (parent) focusRow(shown.findIndex((entry) => entry.node === parent));
  }

  const KEYS = {
    ArrowDown: (at) => focusRow(at + 1), ArrowUp: (at) => focusRow(at - 1), ArrowRight: right, ArrowLeft: left,
    PageDown: (at) => focusRow(at + 15), PageUp: (at) => focusRow(at - 15),
    Home: () => focusRow(0), End: () => focusRow(shown.length - 1), Enter: enter, " ": enter,
  };

  body.addEventListener("keydown", (event) => {
    const row = event.target.closest(".row"), act = KEYS[event.key];
    if (!row || !act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(Number(row.dataset.at));
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row || String(window.getSelection())) return;
    focusRow(Number(row.dataset.at));
    enter(Number(row.dataset.at));
  });
  about.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // ------------------------------------------------------------------ the tools

  function offer(id, key) {
    const values = [...new Set(tensors.map((tensor) => tensor[key]))].sort(natural);
    for (const value of values) byId(id).append(element("option", { value }, value));
    byId(id).addEventListener("change", (event) => { state[key] = event.target.value; refresh(); });
  }

  let waiting = 0;
  byId("words").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      refresh();
    }, 120);
  });
  offer("role", "role");
  offer("format", "format");
  byId("flat").addEventListener("change", (event) => { state.flat = event.target.checked; refresh(); });
  byId("expand").addEventListener("click", () => { setAll(roots, true); draw(); });
  byId("collapse").addEventListener("click", () => { state.open.clear(); draw(); });
  document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());

  tree.classList.toggle("exact", tensors.every((tensor) => tensor.error === null));
  tree.append(heads, body);
  refresh();
})();
