// Reports every import that points the wrong way.
import { glob, readFile } from 'node:fs/promises';
import { breachesOf } from './import-rules.ts';

const options = { exclude: (path: string) => path.includes('node_modules') || path.includes('target') };
for await (const file of glob(['services/**/*.ts', 'tools/**/*.ts', 'images/**/*.ts'], options)) {
  for (const { specifier, rule } of breachesOf(file, await readFile(file, 'utf8'))) {
    process.stdout.write(`${file}: imports ${specifier}: ${rule}\n`);
    process.exitCode = 1;
  }
}
