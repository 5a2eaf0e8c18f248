// Fails if what a browser must load before it shows the page is above the budget.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BUDGET = 140_000; // bytes of JavaScript after gzip
const folder = new URL('../dist', import.meta.url).pathname;
const page = readFileSync(join(folder, 'index.html'), 'utf8');
const scripts = [...page.matchAll(/(?:src|href)="(\/[^"]+\.js)"/g)].map((match) => match[1]);
if (scripts.length === 0) throw new Error('index.html loads no script: build first');
let total = 0;
for (const script of scripts) {
  const size = gzipSync(readFileSync(join(folder, script)), { level: 9 }).length;
  console.log(`${script} ${size}`);
  total += size;
}
console.log(`initial JavaScript: ${total} bytes gzip, budget ${BUDGET}`);
process.exit(total > BUDGET ? 1 : 0);
