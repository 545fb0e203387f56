/* Lists the records of an image by the JavaScript that the compiler makes of ekv.ksy:
 * node walk.js MODULES Ekv.js IMAGE prints [[sector, kind, key in hex, size, time], ...]. */
"use strict";
const fs = require("fs");
const path = require("path");
const [modules, description, image] = process.argv.slice(2);

/* The description asks for its runtime as a module beside it. */
const Module = require("module");
const resolve = Module._resolveFilename;
Module._resolveFilename = (name, ...more) =>
    resolve(name.startsWith("kaitai-struct") ? path.resolve(modules, name) : name, ...more);
const Stream = require("kaitai-struct/KaitaiStream");
const Ekv = require(path.resolve(description));

const bytes = fs.readFileSync(image);
const store = new Ekv(new Stream(new Uint8Array(bytes).buffer, 0));
const rows = [];
for (const sector of store.sectors)
    for (const record of sector.log ? sector.log.records : [])
        if (record.isRecord)
            rows.push([sector.number, record.kind, Buffer.from(record.body.key).toString("hex"),
                record.size, record.isTimed ? record.body.time.value : 0]);
console.log(JSON.stringify(rows));
