// Drives one page in headless Chromium, for `onsale`: a command in, an answer out, one after the other.
//
//     node driver.mjs FOLDER_OF_NODE_MODULES CHROMIUM
//
// Lines in:  {"visit": url}, {"see": [selector, text]}: waits until that is what people read there, {"read": selector},
//            {"press": key}, {"click": selector}, {"run": script}, {"crowd": {url, event_id, count}}: so many others join
//            the queue, {"size": [width, height]}, {"scheme": light or dark}, {"picture": path}
// Lines out: {"answer": …} or {"problem": text}. First an answer that says that the page is there. {"end": …} is what the page
//            complained of and asked for, and ends it.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const PATIENCE_MS = 15_000;
const [nodeFolder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${nodeFolder}/`)('playwright-core');
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
// Pictures are of how it is, not of how it becomes so.
const page = await browser.newPage({ reducedMotion: 'reduce' });
const others = await browser.newPage();
const complaints = [], asked = [];
page.on('console', (line) => ['error', 'warning'].includes(line.type()) && complaints.push(line.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('request', (request) => asked.push(request.url()));
page.on('dialog', (dialog) => dialog.accept());

const shown = (selector) => page.evaluate((selector) => {
  const found = document.querySelector(selector);
  return found?.checkVisibility() ? found.textContent.trim() : null;
}, selector);

const commands = {
  visit: (url) => page.goto(url).then(() => true),
  async see([selector, text]) {
    const test = ([selector, text]) => {
      const found = document.querySelector(selector);
      return found?.checkVisibility() && new RegExp(text).test(found.textContent.trim());
    };
    await page.waitForFunction(test, [selector, text], { timeout: PATIENCE_MS }).catch(() => {});
    return shown(selector);
  },
  read: shown,
  press: (key) => page.keyboard.press(key).then(() => true),
  click: (selector) => page.click(selector, { timeout: PATIENCE_MS }).then(() => true),
  run: (script) => page.evaluate(script),
  crowd: ({ url, event_id, count }) => others.evaluate(({ url, event_id, count }) => {
    const one = () => new Promise((done) => {
      const socket = new WebSocket(url);
      socket.onopen = () => socket.send(JSON.stringify({ type: 'queue:join', payload: { event_id } }));
      socket.onmessage = ({ data }) => JSON.parse(data).type === 'queue:joined' && done(true);
    });
    return Promise.all(Array.from({ length: count }, one)).then((all) => all.length);
  }, { url, event_id, count }),
  size: ([width, height]) => page.setViewportSize({ width, height }).then(() => true),
  scheme: (colorScheme) => page.emulateMedia({ colorScheme }).then(() => true),
  picture: (path) => page.screenshot({ path }).then(() => path),
  end: () => ({ complaints, asked }),
};

const tell = (line) => console.log(JSON.stringify(line));
tell({ answer: true });
for await (const line of createInterface({ input: process.stdin })) {
  const [[name, what]] = Object.entries(JSON.parse(line));
  try {
    tell({ answer: await commands[name](what) ?? null });
  } catch (error) {
    tell({ problem: String(error) });
  }
  if (name === 'end') break;
}
await browser.close();
