"use strict";
/* What `ekv map --html` embedded, and what follows from it: the store as of a moment.
 *
 * Records are in the order of their keys, of each key the newest version first, copies of a version
 * behind all others. A moment is an index into the transactions, of which the last is "now". */

const data = JSON.parse(document.getElementById("data").textContent);

/* Columns of a table as functions: column(row) instead of row[7]. */
function columns(names) {
  return Object.fromEntries(names.map((name, index) => [name, (row) => row[index]]));
}
const sectorOf = columns(data.sector_columns);
const recordOf = columns(data.record_columns);
const itemOf = columns(data.item_columns);
const transactionOf = columns(data.transaction_columns);
/* Some columns are numbers for words, or differences, to keep the page small. */
const kindNumber = recordOf.kind, stateNumber = recordOf.state, itemKindNumber = itemOf.kind;
recordOf.kind = (record) => data.kinds[kindNumber(record)];
recordOf.state = (record) => data.states[stateNumber(record)];
recordOf.begin = (record) => recordOf.version(record) + recordOf.begin_after(record);
itemOf.kind = (item) => data.kinds[itemKindNumber(item)];

const sectors = data.sectors;
const records = data.records;
const transactions = data.transactions;
const NOW = Math.max(0, transactions.length - 1);
const DELETE = "delete";

/* --- Bytes and texts ----------------------------------------------------------------------------- */

/* Bytes come as a string when they are UTF-8, else as {base64}. */
function bytesOf(value) {
  if (typeof value === "string") return new TextEncoder().encode(value);
  return Uint8Array.from(atob(value.base64), (char) => char.charCodeAt(0));
}

function hex(number, digits) {
  return number.toString(16).padStart(digits || 1, "0");
}

/* One line of text for bytes: what cannot be printed as \x07. */
function lineOf(value) {
  if (typeof value === "string")
    return value.replace(/[\\\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
      (char) => char === "\\" ? "\\\\" : char === "\n" ? "\\n" : char === "\t" ? "\\t"
        : Array.from(new TextEncoder().encode(char), (byte) => "\\x" + hex(byte, 2)).join(""));
  return Array.from(bytesOf(value), (byte) => byte >= 32 && byte < 127 && byte !== 92
    ? String.fromCharCode(byte) : "\\x" + hex(byte, 2)).join("");
}

/* Whether a value reads well as text. */
function isText(value) {
  return typeof value === "string" && !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(value);
}

function preview(record) {
  const value = recordOf.value(record);
  if (recordOf.kind(record) === DELETE) return "";
  if (value === null) return "(cannot be read)";
  if (isText(value)) return lineOf(value.length > 120 ? value.slice(0, 120) : value);
  return Array.from(bytesOf(value).subarray(0, 40), (byte) => hex(byte, 2)).join(" ");
}

function sizeText(size) {
  if (size < 1024) return `${size} B`;
  const unit = size < 1 << 20 ? 10 : size < 1 << 30 ? 20 : 30;
  const number = size / 2 ** unit;
  return `${Number.isInteger(number) ? number : number.toFixed(1)} ${{ 10: "KiB", 20: "MiB", 30: "GiB" }[unit]}`;
}

function timeText(microseconds) {
  if (!microseconds) return "";
  const date = new Date(microseconds / 1000);
  return isNaN(date) ? "" : date.toISOString().slice(0, 19).replace("T", " ");
}

function addressText(address) {
  return "0x" + hex(address, hex(data.size - 1).length);
}

function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

/* --- Keys ---------------------------------------------------------------------------------------- */

const keys = data.keys.map(([space, bytes], index) => {
  const text = lineOf(bytes);
  return { index, space, text, search: text.toLowerCase(), first: 0, end: 0 };
});
const recordAt = new Map(); /* address -> index of the record there */
records.forEach((record, index) => {
  const key = keys[recordOf.key(record)];
  if (key.end === 0) key.first = index;
  key.end = index + 1;
  recordAt.set(recordOf.address(record), index);
});

/* The record that a key has at a moment: its index, -1 for none. A removal counts as one. */
function visible(key, moment) {
  if (moment >= NOW) {
    for (let i = key.first; i < key.end; i++)
      if (recordOf.current(records[i])) return i;
    return -1;
  }
  const version = transactionOf.version(transactions[moment]);
  for (let i = key.first; i < key.end; i++)
    if (!recordOf.copy(records[i]) && recordOf.state(records[i]) === "committed" &&
        recordOf.begin(records[i]) <= version) return i;
  return -1;
}

/* All of the store as of a moment: the visible record of each key, which records these are, how many
 * keys there are, and what they take in each sector. */
function storeAt(moment) {
  const shown = new Int32Array(keys.length);
  const isShown = new Uint8Array(records.length);
  const live = new Float64Array(sectors.length);
  let count = 0;
  const add = (address, size) => {
    const sector = Math.floor(address / data.sector_size);
    if (sector < live.length) live[sector] += size;
  };
  for (const key of keys) {
    const at = visible(key, moment);
    shown[key.index] = at;
    if (at < 0) continue;
    const record = records[at];
    isShown[at] = 1;
    if (recordOf.kind(record) === DELETE) continue;
    if (key.space === 0) count++;
    add(recordOf.address(record), recordOf.record_size(record));
    for (const [address, size] of recordOf.pieces(record) || []) add(address, size);
  }
  if (moment >= NOW) sectors.forEach((sector, i) => { live[i] = sectorOf.live_size(sector); });
  return { shown, isShown, live, count };
}

/* Keys that a transaction changed. */
function changedBy(moment) {
  if (!transactions.length) return new Set();
  return new Set(transactionOf.records(transactions[moment]).map((at) => recordOf.key(records[at])));
}

/* What a record is at the moment that is shown, in a word. */
function standing(at, store) {
  const record = records[at];
  const state = recordOf.state(record);
  if (!recordOf.valid(record)) return "damaged";
  if (state === "pending") return "pending";
  if (state === "unknown") return "unclear";
  if (recordOf.copy(record)) return "copy";
  if (store.isShown[at]) return recordOf.kind(record) === DELETE ? "removed" : "current";
  return recordOf.begin(record) > versionOf(ui.moment) ? "later" : "old";
}

function versionOf(moment) {
  return moment >= NOW ? Infinity : transactionOf.version(transactions[moment]);
}

/* --- What is on the screen ----------------------------------------------------------------------- */

/* `version` is the record that the key panel shows, -1: the one of the moment. */
const ui = { moment: NOW, by: "kind", sector: -1, key: -1, version: -1, store: storeAt(NOW) };
const element = (id) => document.getElementById(id);

/* An element with attributes and children, texts among them. */
function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {}))
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(key, value === true ? "" : value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
