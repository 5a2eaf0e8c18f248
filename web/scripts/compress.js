// Puts a .gz beside every text file of the build: nginx hands it out instead of compressing again and again.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = new URL('../dist', import.meta.url).pathname;
for (const name of readdirSync(folder, { recursive: true })) {
  if (/\.(html|css|js|svg)$/.test(name)) {
    const path = join(folder, name);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
  }
}
