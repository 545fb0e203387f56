/* The panels: what lies in a sector, the list of keys, the value and the history of a key. */

const ROW_HEIGHT = 26;
const ROWS_AT_ONCE = 1500;
const standingTexts = {
  current: "as it was then", removed: "removes the key", old: "overwritten by then",
  later: "written later", pending: "of a transaction that was never committed",
  damaged: "its checksum is wrong", unclear: "whether it was committed cannot be told",
  copy: "another copy of the same version",
};

function tag(word) {
  const kinds = { current: "current", removed: "removed", pending: "pending", unclear: "pending",
    damaged: "damaged" };
  return make("span", { class: `tag ${kinds[word] || "old"}`, title: standingTexts[word] }, word);
}

/* A row that a click or Enter chooses. */
function linkRow(attributes, choose, ...cells) {
  return make("tr", { ...attributes, class: `link ${attributes.class || ""}`, tabindex: "0", onclick: choose,
    onkeydown: (event) => {
      const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      if (next) event.currentTarget[next]?.focus();
      else if (event.key === "Enter") choose(event);
      else return;
      event.preventDefault();
    } }, ...cells);
}

function table(titles, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...titles.map(([title, kind]) =>
    make("th", { class: kind, scope: "col" }, title)))), make("tbody", {}, ...rows));
}

/* --- Sector -------------------------------------------------------------------------------------- */

function itemRow(item, base) {
  const kind = itemOf.kind(item), offset = itemOf.offset(item);
  const at = recordAt.get(base + offset);
  const place = [make("td", { class: "mono" }, "0x" + hex(offset, 3)),
    make("td", { class: "number" }, String(itemOf.size(item)))];
  if (at === undefined || !["put", "delete", "head", "record"].includes(kind))
    return make("tr", { class: itemOf.valid(item) ? "dim" : "" }, ...place, make("td", {}, kind),
      make("td", { class: "wide", colspan: "2" }, itemOf.detail(item) || ""),
      make("td", {}, itemOf.valid(item) ? null : tag("damaged")));
  const record = records[at], key = keys[recordOf.key(record)], word = standing(at, ui.store);
  return linkRow({ class: `${key.index === ui.key ? "chosen" : ""} ${word === "old" ? "dim" : ""}` },
    () => chooseKey(key.index, at), ...place, make("td", {}, kind),
    make("td", { class: "name mono", title: key.text }, key.text),
    make("td", { class: "wide mono" }, preview(record)), make("td", {}, tag(word)));
}

function drawSector(all) {
  if (ui.sector < 0) return;
  const sector = sectors[ui.sector], items = data.items[ui.sector] || [];
  const base = ui.sector * data.sector_size, body = element("sector-body");
  const used = sectorOf.sequence(sector)
    ? `${sectorOf.role(sector) === "index" ? "since run" : "sequence"} ${sectorOf.sequence(sector)}, ` : "";
  element("sector-title").textContent = `Sector ${ui.sector}: ${roleTexts[sectorOf.role(sector)]}`;
  element("sector-facts").textContent = `${addressText(base)}, ${used}${
    sectorOf.erase_count(sector) === null ? "erase count not known"
      : `erased ${plural(sectorOf.erase_count(sector), "time")}`}, ${
    Math.round(100 * ui.store.live[ui.sector] / data.sector_size)} % live`;
  const rows = (all ? items : items.slice(0, ROWS_AT_ONCE)).map((item) => itemRow(item, base));
  body.replaceChildren(items.length
    ? table([["Offset"], ["Size", "number"], ["What"], ["Key"], ["Value"], [""]], rows)
    : make("p", { class: "hint" }, sectorOf.role(sector) === "missing"
      ? "This sector is not in the dump." : "Nothing is written in it."));
  if (rows.length < items.length)
    body.append(make("p", { class: "hint" }, make("button", { type: "button", onclick: () => drawSector(true) },
      `Show all ${items.length.toLocaleString("en")}`)));
}

function chooseSector(number, keepScroll) {
  const fresh = number !== ui.sector;
  ui.sector = number;
  drawGrid();
  drawSector();
  if (fresh && !keepScroll) element("sector-body").scrollTop = 0;
}

/* --- Keys ---------------------------------------------------------------------------------------- */

const list = { rows: [] };

function searchKeys() {
  const wanted = element("search").value.toLowerCase(), gone = element("gone").checked;
  const aside = element("aside").checked;
  list.rows = keys.filter((key) => {
    const at = ui.store.shown[key.index];
    const there = at >= 0 && recordOf.kind(records[at]) !== DELETE;
    return (there || gone) && (aside || key.space === 0) && (!wanted || key.search.includes(wanted));
  });
  element("key-space").style.height = list.rows.length * ROW_HEIGHT + "px";
  element("key-count").textContent = wanted || gone
    ? `${list.rows.length.toLocaleString("en")} of ${keys.length.toLocaleString("en")}`
    : list.rows.length.toLocaleString("en");
  drawKeys();
}

function keyRow(key, index, changed) {
  const at = ui.store.shown[key.index];
  const there = at >= 0 && recordOf.kind(records[at]) !== DELETE;
  return make("div", { class: `key-row ${there ? "" : "gone"} ${changed.has(key.index) ? "changed" : ""}`,
    role: "option", id: `key-${key.index}`, "aria-selected": String(key.index === ui.key),
    "aria-posinset": index + 1, "aria-setsize": list.rows.length,
    style: `top: ${index * ROW_HEIGHT}px`, title: key.text, onclick: () => chooseKey(key.index, -1) },
  make("b", {}, key.text || "(the empty key)"),
  key.space ? make("span", { class: "tag old", title: "kept beside the keys by a host" }, "attributes") : null,
  make("span", { class: "preview" }, there ? preview(records[at]) : "removed"),
  make("span", { class: "size" }, there ? sizeText(recordOf.size(records[at])) : ""));
}

/* Only the rows that can be seen are in the page. */
function drawKeys() {
  const box = element("key-list"), changed = changedBy(ui.moment);
  const first = Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - 10);
  const end = Math.min(list.rows.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_HEIGHT) + 10);
  const rows = [];
  for (let i = first; i < end; i++) rows.push(keyRow(list.rows[i], i, changed));
  element("key-space").replaceChildren(...rows);
  box.setAttribute("aria-activedescendant", ui.key >= 0 ? `key-${ui.key}` : "");
}

function showRow(index) {
  const box = element("key-list"), top = index * ROW_HEIGHT;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + ROW_HEIGHT > box.scrollTop + box.clientHeight)
    box.scrollTop = top + ROW_HEIGHT - box.clientHeight;
}

function listKey(event) {
  const page = Math.max(1, Math.floor(element("key-list").clientHeight / ROW_HEIGHT) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || list.rows.length === 0) return;
  event.preventDefault();
  const at = list.rows.findIndex((key) => key.index === ui.key);
  const next = at < 0 ? 0 : Math.min(Math.max(at + steps[event.key], 0), list.rows.length - 1);
  chooseKey(list.rows[next].index, -1);
}

/* Chooses a key, and of it one version (-1: that of the moment). */
function chooseKey(key, version) {
  ui.key = key;
  ui.version = version;
  const index = list.rows.findIndex((row) => row.index === key);
  if (index >= 0) showRow(index);
  drawKeys();
  drawKey();
  drawSector();
  drawGrid();
}

/* --- Key ----------------------------------------------------------------------------------------- */

function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16));
    lines.push(`${hex(at, 6)}  ${row.map((byte) => hex(byte, 2)).join(" ").padEnd(47)}  ${
      row.map((byte) => byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".").join("")}`);
  }
  return lines.join("\n");
}

function valueView(at, asHex) {
  const record = records[at], value = recordOf.value(record);
  if (recordOf.kind(record) === DELETE)
    return make("div", { class: "value" }, make("p", { class: "note" }, "This version removes the key."));
  if (value === null)
    return make("div", { class: "value" }, make("p", { class: "note" }, "The value cannot be read any more."));
  const text = isText(value), bytes = bytesOf(value), notes = [];
  const showHex = asHex === undefined ? !text : asHex;
  if (bytes.length < recordOf.size(record))
    notes.push(`The first ${bytes.length.toLocaleString("en")} of ${
      recordOf.size(record).toLocaleString("en")} bytes; "ekv get" gives all of them.`);
  if (recordOf.lost(record)) notes.push(`${plural(recordOf.lost(record), "byte")} of it cannot be read.`);
  if (bytes.length === 0 && recordOf.size(record) === 0) notes.push("The value is empty.");
  const view = make("div", { class: "value" },
    text && bytes.length ? make("div", { class: "tools" }, make("button", { type: "button",
      onclick: () => view.replaceWith(valueView(at, !showHex)) }, showHex ? "Text" : "Hex")) : null,
    make("pre", { class: showHex ? "hex" : "", id: "value" }, showHex ? hexDump(bytes) : value),
    ...notes.map((note) => make("p", { class: "note" }, note)));
  return view;
}

/* The moment at which a version became visible, -1 if no transaction says. */
function momentOf(record) {
  let low = 0, high = transactions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (transactionOf.version(transactions[middle]) < recordOf.begin(record)) low = middle + 1;
    else high = middle;
  }
  return low < transactions.length && recordOf.state(record) === "committed" ? low : -1;
}

function versionRow(at, shown) {
  const record = records[at], address = recordOf.address(record), moment = momentOf(record);
  const sector = Math.floor(address / data.sector_size);
  return linkRow({ class: at === shown ? "chosen" : "", "data-version": recordOf.version(record) },
    () => chooseKey(ui.key, at),
    make("td", { class: "number" }, String(recordOf.version(record))),
    make("td", {}, timeText(recordOf.time(record)) || "–"),
    make("td", { class: "number" }, recordOf.kind(record) === DELETE ? "–" : String(recordOf.size(record))),
    make("td", {}, tag(standing(at, ui.store))),
    make("td", { class: "mono" }, make("button", { type: "button", title: `Sector ${sector}`,
      onclick: (event) => { event.stopPropagation(); chooseSector(sector, true); } }, addressText(address))),
    make("td", { class: "wide mono" }, preview(record)),
    make("td", {}, moment < 0 ? null : make("button", { type: "button", title: "The store as of then",
      onclick: (event) => { event.stopPropagation(); chooseMoment(moment); } }, "go to")));
}

function drawKey() {
  if (ui.key < 0) return;
  const key = keys[ui.key], of = ui.store.shown[ui.key];
  const shown = ui.version >= 0 ? ui.version : of;
  const body = element("key-body"), rows = [];
  for (let at = key.first; at < key.end; at++) rows.push(versionRow(at, shown));
  element("key-title").textContent = key.text || "(the empty key)";
  element("key-title").title = key.text;
  element("key-facts").textContent = plural(rows.length, "version") + " on flash";
  body.replaceChildren(
    shown >= 0 ? valueView(shown)
      : make("div", { class: "value" }, make("p", { class: "note" }, "The key was not there at this moment.")),
    table([["Version", "number"], ["Time"], ["Size", "number"], [""], ["Address"], ["Value"], [""]], rows));
}
