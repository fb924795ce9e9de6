// One classic script with the module in it: neither modules nor fetch work from a folder.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const folder = "node_modules/@mujoco/mujoco";
const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
const { outputFiles: [script] } = await build({
  stdin: { contents: `export { default as load } from "@mujoco/mujoco";`, resolveDir: "." },
  bundle: true,
  minify: true,
  write: false,
  format: "iife",
  globalName: "MUJOCO",
  platform: "browser",
  external: ["module", "worker_threads", "fs", "path", "url"],
  define: { "import.meta.url": '"file:///"' },
  legalComments: "none",
});
const binary = gzipSync(readFileSync(`${folder}/mujoco.wasm`), { level: 9 }).toString("base64");
const head = `/*! MuJoCo ${version}, https://github.com/google-deepmind/mujoco, ${license} */`;
mkdirSync("dist", { recursive: true });
writeFileSync("dist/mujoco.js", `${head}\n${script.text}MUJOCO.binary = "${binary}";\n`);
