/* The picture of the sectors: a canvas, so that a hundred thousand of them are drawn at once. */

const grid = { size: 0, columns: 1, gap: 1 };

const roleTexts = {
  manifest: "manifest", log: "log", index: "index", stale: "free, old content", ready: "free, erased",
  blank: "blank", foreign: "free, foreign content", retired: "retired", damaged: "damaged",
  missing: "not in this dump",
};

/* --- What colours say ---------------------------------------------------------------------------- */

const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function scaleColour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(at), SCALE.length - 2);
  const mixed = SCALE[low].map((from, i) => Math.round(from + (SCALE[low + 1][i] - from) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

/* How recently a sector was put to use, among those of its kind: 0 the oldest, 1 the newest. */
const ages = (() => {
  const ranges = new Map();
  const inUse = (sector) => ["log", "index", "manifest"].includes(sectorOf.role(sector));
  for (const sector of sectors.filter(inUse)) {
    const range = ranges.get(sectorOf.role(sector)) || [Infinity, -Infinity];
    ranges.set(sectorOf.role(sector), [Math.min(range[0], sectorOf.sequence(sector)),
      Math.max(range[1], sectorOf.sequence(sector))]);
  }
  return sectors.map((sector) => {
    if (!inUse(sector) || sectorOf.sequence(sector) === 0) return null;
    const [low, high] = ranges.get(sectorOf.role(sector));
    return high === low ? 1 : (sectorOf.sequence(sector) - low) / (high - low);
  });
})();
const wearMax = sectors.reduce((most, sector) => Math.max(most, sectorOf.erase_count(sector) || 0), 0);

/* The share that a sector's colour stands for, null for none. */
function shareOf(number) {
  const sector = sectors[number];
  if (ui.by === "fill")
    return ["log", "stale"].includes(sectorOf.role(sector)) || ui.store.live[number]
      ? ui.store.live[number] / data.sector_size : null;
  if (ui.by === "age") return ages[number];
  const erases = sectorOf.erase_count(sector);
  return erases === null ? null : wearMax ? erases / wearMax : 0;
}

/* --- Drawing ------------------------------------------------------------------------------------- */

/* The largest cells with which all sectors fit, eight or a multiple of eight a row; very many scroll. */
function layOut() {
  const box = element("grid");
  const width = box.clientWidth - 24, height = box.clientHeight - 20;
  const inRow = (size) => Math.max(8, Math.floor(width / size / 8) * 8);
  const least = sectors.length > 30000 ? 3 : 7;
  let size = 78;
  while (size > least && (Math.ceil(sectors.length / inRow(size)) * size > height || inRow(size) * size > width))
    size--;
  grid.size = size;
  grid.columns = Math.min(sectors.length, inRow(size));
  grid.gap = size > 24 ? 3 : size > 12 ? 2 : size > 4 ? 1 : 0;
}

function drawCell(context, number, colours) {
  const x = number % grid.columns * grid.size, y = Math.floor(number / grid.columns) * grid.size;
  const side = grid.size - grid.gap, sector = sectors[number];
  const share = ui.by === "kind" ? null : shareOf(number);
  context.fillStyle = ui.by === "kind" ? colours[sectorOf.role(sector)]
    : share === null ? colours.missing : scaleColour(share);
  context.fillRect(x, y, side, side);
  if (side > 16) {
    context.strokeStyle = colours.edge;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    const fill = Math.min(1, ui.store.live[number] / data.sector_size);
    if (ui.by === "kind" && fill > 0) {
      context.fillStyle = "rgb(255 255 255 / 35%)";
      context.fillRect(x + 3, y + side - 7, side - 6, 4);
      context.fillStyle = "rgb(255 255 255 / 95%)";
      context.fillRect(x + 3, y + side - 7, (side - 6) * fill, 4);
    }
  }
  if (side > 26) {
    const bright = share !== null ? share > 0.55
      : ui.by !== "kind" || ["ready", "blank", "stale", "missing", "foreign"].includes(sectorOf.role(sector));
    context.fillStyle = bright ? (share === null ? colours.soft : "#10151a") : "#ffffff";
    context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    context.fillText(String(number), x + 4, y + 13);
  }
  if (sectorOf.broken_count(sector) > 0) {
    context.fillStyle = colours.damaged;
    context.beginPath();
    context.moveTo(x + side, y);
    context.lineTo(x + side, y + Math.max(4, side / 3));
    context.lineTo(x + side - Math.max(4, side / 3), y);
    context.fill();
  }
}

function outline(context, number, colour, width) {
  const x = number % grid.columns * grid.size, y = Math.floor(number / grid.columns) * grid.size;
  const side = grid.size - grid.gap;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(x + width / 2 - 1, y + width / 2 - 1, side - width + 2, side - width + 2);
}

/* Sectors that hold what the chosen key has at the moment. */
function sectorsOfKey() {
  const at = ui.key < 0 ? -1 : ui.version >= 0 ? ui.version : ui.store.shown[ui.key];
  if (at < 0) return [];
  const addresses = [recordOf.address(records[at]), ...(recordOf.pieces(records[at]) || []).map(([a]) => a)];
  return [...new Set(addresses.map((address) => Math.floor(address / data.sector_size)))];
}

function drawGrid() {
  layOut();
  const canvas = element("canvas"), ratio = window.devicePixelRatio || 1;
  const width = grid.columns * grid.size, height = Math.ceil(sectors.length / grid.columns) * grid.size;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const colours = Object.fromEntries([...Object.keys(roleTexts), "soft", "ink", "accent"]
    .map((name) => [name, cssColour(name)]));
  colours.edge = "rgb(128 128 128 / 35%)";
  for (let number = 0; number < sectors.length; number++) drawCell(context, number, colours);
  for (const number of sectorsOfKey()) outline(context, number, "#ff8c1a", 3);
  if (ui.sector >= 0) outline(context, ui.sector, colours.ink, 3);
  canvas.setAttribute("aria-label", ui.sector < 0 ? `${sectors.length} sectors by ${ui.by}`
    : sectorText(ui.sector).replaceAll("\n", ", "));
  drawLegend();
}

function drawLegend() {
  const legend = element("legend");
  legend.replaceChildren();
  if (ui.by === "kind") {
    const counts = new Map();
    for (const sector of sectors) counts.set(sectorOf.role(sector), (counts.get(sectorOf.role(sector)) || 0) + 1);
    for (const role of Object.keys(roleTexts).filter((name) => counts.has(name)))
      legend.append(make("span", { "data-role": role },
        make("i", { style: `background: var(--${role})` }), `${roleTexts[role]} ${counts.get(role)}`));
    return;
  }
  const ends = { fill: ["0 % live", "100 %"], age: ["oldest of its kind", "newest"],
    wear: ["0 erases", String(wearMax)] }[ui.by];
  const none = { fill: "holds no values", age: "not in use", wear: "not known" }[ui.by];
  legend.append(ends[0], make("i", { class: "scale",
    style: `background: linear-gradient(90deg, ${SCALE.map((_, i) => scaleColour(i / 4)).join(", ")})` }),
  ends[1], make("span", {}, make("i", { style: "background: var(--missing)" }), none));
}

/* --- Pointing ------------------------------------------------------------------------------------ */

function sectorText(number) {
  const sector = sectors[number], erases = sectorOf.erase_count(sector);
  const lines = [`Sector ${number}, ${roleTexts[sectorOf.role(sector)]}`,
    `${addressText(number * data.sector_size)}, ${
      erases === null ? "erase count not known" : `erased ${plural(erases, "time")}`}`];
  if (ui.store.live[number])
    lines.push(`${Math.round(100 * ui.store.live[number] / data.sector_size)} % live`);
  if (sectorOf.broken_count(sector)) lines.push(`${plural(sectorOf.broken_count(sector), "broken place")}`);
  if (sectorOf.torn(sector)) lines.push("ends in a torn write");
  return lines.join("\n");
}

function sectorUnder(event) {
  const box = element("canvas").getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / grid.size);
  const number = Math.floor((event.clientY - box.top) / grid.size) * grid.columns + column;
  return column >= 0 && column < grid.columns && number >= 0 && number < sectors.length ? number : -1;
}

function showTip(event) {
  const tip = element("tip"), number = sectorUnder(event);
  tip.hidden = number < 0;
  if (number < 0) return;
  tip.textContent = sectorText(number);
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 6) + "px";
  tip.style.top = Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 6) + "px";
}

function gridKey(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns };
  let next = ui.sector < 0 ? 0 : ui.sector + (steps[event.key] || 0);
  if (event.key === "Home") next = 0;
  else if (event.key === "End") next = sectors.length - 1;
  else if (event.key === "Enter") element("sector-body").querySelector("tr[tabindex]")?.focus();
  else if (!(event.key in steps)) return;
  event.preventDefault();
  if (event.key !== "Enter" && next >= 0 && next < sectors.length) chooseSector(next);
}

function startGrid() {
  const canvas = element("canvas");
  canvas.addEventListener("click", (event) => {
    const number = sectorUnder(event);
    if (number >= 0) chooseSector(number);
  });
  canvas.addEventListener("mousemove", showTip);
  canvas.addEventListener("mouseleave", () => { element("tip").hidden = true; });
  canvas.addEventListener("keydown", gridKey);
  for (const button of document.querySelectorAll("[data-by]"))
    button.addEventListener("click", () => chooseColour(button.dataset.by));
  new ResizeObserver(drawGrid).observe(element("grid"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawGrid);
}

function chooseColour(by) {
  ui.by = by;
  for (const button of document.querySelectorAll("[data-by]"))
    button.setAttribute("aria-pressed", String(button.dataset.by === by));
  drawGrid();
}
