/* The head of the page, the time, the keyboard; then everything is drawn. */

function fact(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}

function drawHead() {
  document.title = `${data.label || data.image} – ekv map`;
  element("title").textContent = data.label || data.image;
  element("subtitle").textContent = `${data.label ? data.image + ", " : ""}store ${data.store_id}${
    data.offset ? ` at ${data.offset < 0 ? "-" : ""}0x${hex(Math.abs(data.offset))}` : ""}`;
  const facts = [["flash", `${sizeText(data.size)}, ${data.sector_count.toLocaleString("en")} × ${
    sizeText(data.sector_size)}`], ["keys", ui.store.count.toLocaleString("en")],
  ["versions", records.length.toLocaleString("en")],
  ["transactions", transactions.length.toLocaleString("en")], ["most erases", String(wearMax)]];
  if (data.write_unit > 1) facts.push(["write unit", String(data.write_unit)]);
  element("facts").replaceChildren(...facts.map(([name, value]) => fact(name, value)));
  const bad = data.findings.filter((finding) => !finding.note);
  const button = element("findings-button");
  button.className = bad.length ? "bad" : "good";
  button.textContent = bad.length ? plural(bad.length, "finding")
    : data.findings.length ? `no damage, ${plural(data.findings.length, "note")}` : "no damage";
  button.disabled = data.findings.length === 0;
  button.addEventListener("click", () => {
    const box = element("findings");
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
  });
  element("findings").replaceChildren(table([["Address"], ["Code"], ["What"], ["Key"]],
    data.findings.slice(0, ROWS_AT_ONCE).map((finding) => linkRow({ class: finding.note ? "dim" : "" },
      () => chooseSector(Math.min(sectors.length - 1, Math.floor(finding.address / data.sector_size))),
      make("td", { class: "mono" }, addressText(finding.address)), make("td", {}, finding.code),
      make("td", { class: "wide" }, finding.text),
      make("td", { class: "name mono" }, finding.key === null ? "" : lineOf(finding.key))))));
}

/* --- Time ---------------------------------------------------------------------------------------- */

function momentText() {
  if (!transactions.length) return "no transaction is known";
  const transaction = transactions[ui.moment], time = timeText(transactionOf.time(transaction));
  const changes = transactionOf.records(transaction).length;
  return `${ui.moment >= NOW ? "now: " : ""}${time ? time + ", " : ""}version ${
    transactionOf.version(transaction)}, ${plural(changes, "change")}, ${
    plural(ui.store.count, "key")} (${ui.moment + 1} of ${transactions.length})`;
}

function chooseMoment(moment) {
  ui.moment = Math.min(Math.max(moment, 0), NOW);
  ui.store = storeAt(ui.moment);
  ui.version = -1;
  element("slider").value = ui.moment;
  element("slider").setAttribute("aria-valuetext", momentText());
  element("moment").textContent = momentText();
  element("older").disabled = ui.moment === 0;
  element("newer").disabled = element("now").disabled = ui.moment >= NOW;
  document.body.classList.toggle("past", ui.moment < NOW);
  const uncertain = ui.moment < NOW && versionOf(ui.moment) < data.complete;
  element("uncertain").hidden = !uncertain;
  if (uncertain)
    element("uncertain").textContent = "Parts of the log from before this moment were collected since: " +
      "keys that were changed or removed after it may be missing here.";
  searchKeys();
  drawKey();
  drawSector();
  drawGrid();
}

function startTime() {
  const slider = element("slider");
  slider.max = NOW;
  slider.disabled = transactions.length < 2;
  slider.addEventListener("input", () => chooseMoment(Number(slider.value)));
  element("older").addEventListener("click", () => chooseMoment(ui.moment - 1));
  element("newer").addEventListener("click", () => chooseMoment(ui.moment + 1));
  element("now").addEventListener("click", () => chooseMoment(NOW));
}

/* --- Keyboard ------------------------------------------------------------------------------------ */

function pageKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input[type=search]")) {
    if (event.key === "Escape") element("key-list").focus();
    return;
  }
  const colours = { 1: "kind", 2: "fill", 3: "age", 4: "wear" };
  if (event.key in colours) chooseColour(colours[event.key]);
  else if (event.key === "/") element("search").focus();
  else if (event.key === "[") chooseMoment(ui.moment - 1);
  else if (event.key === "]") chooseMoment(ui.moment + 1);
  else if (event.key === "n") chooseMoment(NOW);
  else return;
  event.preventDefault();
}

drawHead();
startTime();
startGrid();
element("search").addEventListener("input", () => { element("key-list").scrollTop = 0; searchKeys(); });
element("gone").addEventListener("change", searchKeys);
element("aside").addEventListener("change", searchKeys);
element("aside-label").hidden = keys.every((key) => key.space === 0);
element("key-list").addEventListener("scroll", drawKeys, { passive: true });
element("key-list").addEventListener("keydown", listKey);
new ResizeObserver(drawKeys).observe(element("key-list"));
document.addEventListener("keydown", pageKey);
chooseMoment(NOW);
