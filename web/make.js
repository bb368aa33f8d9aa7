// Makes web/dist/status.html, the status page in one file, of web/src and uPlot. Called by web/build.
//
//   node make.js          writes it
//   node make.js --check  fails when what is there is not what would be written
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { build, transform } from 'esbuild';

const here = (path) => new URL(path, import.meta.url);
const read = (path) => readFile(here(path), 'utf8');
const sha256 = (text) => `sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}`;
// What every browser of the last three years has.
const target = ['chrome109', 'firefox115', 'safari16'];

const scripts = await build({
  entryPoints: [here('src/status.js').pathname], bundle: true, write: false, minify: true, format: 'iife', target, charset: 'utf8', legalComments: 'none',
});
const licence = (await read('node_modules/uplot/LICENSE')).trim();
const { version } = JSON.parse(await read('node_modules/uplot/package.json'));
// The end of a script element must not be found within it.
const script = `/*! uPlot ${version}\n${licence}\n*/\n${scripts.outputFiles[0].text.trim().replaceAll('</script', '<\\/script')}`;
const style = (await transform(`${await read('node_modules/uplot/dist/uPlot.min.css')}\n${await read('src/status.css')}`, { loader: 'css', minify: true, target, charset: 'utf8' })).code.trim();

const page = (await read('src/status.html'))
  .replace('<!doctype html>', () => `<!doctype html>\n<!-- Made by web/build of web/src; script '${sha256(script)}', style '${sha256(style)}'. -->`)
  .replace('/* STYLE */', () => style)
  .replace('/* SCRIPT */', () => script);

const path = 'dist/status.html';
if (process.argv.includes('--check')) {
  if ((await read(path)) !== page) {
    console.error(`web/${path} is not what its sources make: run web/build and commit it`);
    process.exit(1);
  }
} else {
  await writeFile(here(path), page);
  console.log(`web/${path}: ${Buffer.byteLength(page)} bytes`);
}
