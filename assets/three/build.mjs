// One classic script with the licence at its head: modules do not load from a folder.
import { readFileSync } from "node:fs";
import { build } from "esbuild";

const { version } = JSON.parse(readFileSync("node_modules/three/package.json", "utf8"));
const licence = readFileSync("node_modules/three/LICENSE", "utf8").trim();
await build({
  entryPoints: ["entry.js"],
  outfile: "../../vnl_envs/replays/viewer/three.min.js",
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "THREE",
  legalComments: "none",
  charset: "utf8",
  banner: { js: `/*! three.js ${version}, https://threejs.org\n\n${licence}\n*/` },
});
