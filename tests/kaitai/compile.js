/* Compiles a Kaitai Struct description: node compile.js MODULES FILE.ksy LANGUAGE DIRECTORY */
"use strict";
const fs = require("fs");
const path = require("path");
const [modules, source, language, directory] = process.argv.slice(2);
const yaml = require(path.resolve(modules, "js-yaml"));
const Compiler = require(path.resolve(modules, "kaitai-struct-compiler"));

new Compiler().compile(language, yaml.load(fs.readFileSync(source, "utf8")), null, false)
    .then((files) => {
        for (const [name, text] of Object.entries(files))
            fs.writeFileSync(path.join(directory, name), text);
    })
    .catch((error) => {
        console.error(`${source}: ${error.message || error}`);
        process.exitCode = 1;
    });
