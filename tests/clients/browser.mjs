// Drives one page in headless Chromium, for `run`: page.html, served from a free port of this machine.
//
//     node browser.mjs FOLDER_OF_NODE_MODULES CHROMIUM
//
// Lines in:  {"open": {name, url, protocols}}, {"say": {name, text}}, {"screenshot": path}
// Lines out: {"ready": true} first, then {"heard": {name, text}}, {"opened": {name, protocol, extensions}},
//            {"closed": {name, code, reason}}, {"saved": path}

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [nodeFolder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${nodeFolder}/`)('playwright-core');

const page = readFileSync(new URL('page.html', import.meta.url));
const server = createServer((_request, response) => response.end(page));
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--ignore-certificate-errors',
  ],
});
const tab = await browser.newPage({ viewport: { width: 1280, height: 720 } });
await tab.exposeFunction('report', (event) => console.log(JSON.stringify(event)));
await tab.goto(`http://127.0.0.1:${server.address().port}/`);
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface({ input: process.stdin })) {
  const { open, say, screenshot } = JSON.parse(line);
  if (open) await tab.evaluate((what) => window.connect(what), open);
  if (say) await tab.evaluate(({ name, text }) => window.sockets[name].send(text), say);
  if (screenshot) {
    await tab.screenshot({ path: screenshot, fullPage: true });
    console.log(JSON.stringify({ saved: screenshot }));
  }
}
await browser.close();
server.close();
